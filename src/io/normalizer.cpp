#include "io/normalizer.h"

#include <cstdlib>
#include <functional>
#include <utf8proc.h>

#include "io/byte_level.h"
#include "io/regex.h"
#include "io/utf8.h"

namespace candela::io {
namespace {

/// A normal form of Unicode, as utf8proc's options.
class NormalForm final : public NormalizerStep {
 public:
  explicit NormalForm(int options) : options_(static_cast<utf8proc_option_t>(options)) {}

  std::string apply(std::string text, Growth&) const override {
    if (is_ascii(text)) return text;
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                               static_cast<utf8proc_ssize_t>(text.size()), &mapped, options_);
    const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(mapped, std::free);
    require<InvalidArgument>(size >= 0, "tokenizer: text of {} bytes must be normalizable; got: {}",
                             text.size(), utf8proc_errmsg(size));
    return std::string(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size));
  }

 private:
  utf8proc_option_t options_;
};

/// A step that makes little more of a text than it was.
class Mapping final : public NormalizerStep {
 public:
  explicit Mapping(std::function<std::string(std::string)> map) : map_(std::move(map)) {}
  std::string apply(std::string text, Growth&) const override { return map_(std::move(text)); }

 private:
  std::function<std::string(std::string)> map_;
};

class Replace final : public NormalizerStep {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string apply(std::string text, Growth& growth) const override {
    return pattern_.replace(text, content_, growth);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

std::string strip(std::string text, bool left, bool right) {
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (left && begin < end) {
    const CodePoint c = code_point_at(text, begin);
    if (!is_whitespace(c.value)) break;
    begin += c.bytes;
  }
  while (right && end > begin) {
    std::size_t start = end - 1;
    while (start > begin && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!is_whitespace(code_point_at(text, start).value)) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::string strip_accents(std::string text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (!is_mark(c.value)) result.append(text, i, c.bytes);
    i += c.bytes;
  }
  return result;
}

std::unique_ptr<NormalizerStep> mapping(std::function<std::string(std::string)> map) {
  return std::make_unique<Mapping>(std::move(map));
}

std::unique_ptr<NormalizerStep> make_step(const JsonObject& description) {
  constexpr int kCompose = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
  constexpr int kDecompose = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  const std::string type = description.string("type");
  if (type == "NFC") return std::make_unique<NormalForm>(kCompose);
  if (type == "NFD") return std::make_unique<NormalForm>(kDecompose);
  if (type == "NFKC") return std::make_unique<NormalForm>(kCompose | UTF8PROC_COMPAT);
  if (type == "NFKD") return std::make_unique<NormalForm>(kDecompose | UTF8PROC_COMPAT);
  if (type == "Lowercase") return mapping([](std::string text) { return to_lower(text); });
  if (type == "StripAccents") return mapping(strip_accents);
  if (type == "ByteLevel") return mapping([](std::string text) { return to_byte_level(text); });
  if (type == "Strip") {
    const bool left = description.boolean("strip_left");
    const bool right = description.boolean("strip_right");
    return mapping([left, right](std::string text) { return strip(std::move(text), left, right); });
  }
  if (type == "Prepend") {
    return mapping([prefix = short_string(description, "prepend")](std::string text) {
      return text.empty() ? text : prefix + text;
    });
  }
  if (type == "Replace") {
    return std::make_unique<Replace>(make_pattern(description, "pattern"),
                                     short_string(description, "content"));
  }
  throw Unsupported(
      fmt::format("{}: {} \"{}\" is not supported; known are NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, "
                  "Strip, Prepend, Replace, ByteLevel and Sequence",
                  description.source(), description.path_of("type"), type));
}

}  // namespace

Normalizer::Normalizer(const JsonObject& file) {
  for (const JsonObject& component : components(file, "normalizer", "normalizers")) {
    steps_.push_back(make_step(component));
  }
}

std::string Normalizer::apply(std::string text, Growth& growth) const {
  for (const auto& step : steps_) {
    text = step->apply(std::move(text), growth);
    growth.check(text.size());
  }
  return text;
}

}  // namespace candela::io
