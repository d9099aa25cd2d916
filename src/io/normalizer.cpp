#include "io/normalizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utf8proc.h>

#include "io/bert_normalizer.h"
#include "io/byte_level.h"
#include "io/char_map.h"
#include "io/regex.h"
#include "io/utf8.h"

namespace candela::io {
namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

utf8proc_propval_t combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

/// Puts each run of marks into the order of their classes. utf8proc would do so by swapping neighbours, in
/// time quadratic in the run.
void order_marks(CodePoints& points) {
  for (auto begin = points.begin(); begin != points.end();) {
    if (combining_class(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, points.end(), [](auto point) { return combining_class(point) == 0; });
    if (end - begin > 1) {
      std::stable_sort(begin, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    }
    begin = end;
  }
}

/// A normal form of Unicode, as utf8proc's options.
class NormalForm final : public NormalizerStep {
 public:
  explicit NormalForm(int options) : options_(static_cast<utf8proc_option_t>(options)) {}

  std::string apply(std::string text, Growth& growth) const override {
    if (is_ascii(text)) return text;
    CodePoints points = decomposed(text, growth);
    order_marks(points);
    const auto count = static_cast<utf8proc_ssize_t>(points.size());
    points.push_back(0);  // reencode ends the text, which takes the place of the code points, with a zero
    const utf8proc_ssize_t size = utf8proc_reencode(points.data(), count, options_);
    require<InvalidArgument>(size >= 0, "text of {} bytes must be normalizable; got: {}", text.size(),
                             utf8proc_errmsg(size));
    return std::string(reinterpret_cast<const char*>(points.data()), static_cast<std::size_t>(size));
  }

 private:
  CodePoints decomposed(const std::string& text, Growth& growth) const {
    constexpr std::size_t kLongest = 32;  // Unicode's longest decomposition is of 18
    CodePoints points;
    points.reserve(text.size() + 1);
    int boundary = 0;  // written only with UTF8PROC_CHARBOUND
    for (std::size_t i = 0; i < text.size();) {
      const CodePoint c = code_point_at(text, i);
      i += c.bytes;
      std::array<utf8proc_int32_t, kLongest> parts;
      const utf8proc_ssize_t count =
          utf8proc_decompose_char(c.value, parts.data(), kLongest, options_, &boundary);
      require<InvalidArgument>(count >= 0 && count <= static_cast<utf8proc_ssize_t>(kLongest),
                               "the character U+{:04X} must be normalizable", c.value);
      points.insert(points.end(), parts.begin(), parts.begin() + count);
      growth.check(points.size());
    }
    return points;
  }

  utf8proc_option_t options_;
};

/// A step that makes little more of a text than it was.
class Mapping final : public NormalizerStep {
 public:
  explicit Mapping(std::function<std::string(const std::string&)> map) : map_(std::move(map)) {}
  std::string apply(std::string text, Growth&) const override { return map_(text); }

 private:
  std::function<std::string(const std::string&)> map_;
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

std::string strip(const std::string& text, bool left, bool right) {
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

std::string strip_accents(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (!is_mark(c.value)) result.append(text, i, c.bytes);
    i += c.bytes;
  }
  return result;
}

std::unique_ptr<NormalizerStep> mapping(std::function<std::string(const std::string&)> map) {
  return std::make_unique<Mapping>(std::move(map));
}

class Precompiled final : public NormalizerStep {
 public:
  explicit Precompiled(const JsonObject& description) : map_(description) {}
  std::string apply(std::string text, Growth& growth) const override { return map_.apply(text, growth); }

 private:
  CharMap map_;
};

class BertNormalizer final : public NormalizerStep {
 public:
  explicit BertNormalizer(const JsonObject& description)
      : options_(read_bert_normalizer_options(description)),
        decompose_(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE) {}

  std::string apply(std::string text, Growth& growth) const override {
    if (options_.clean_text) text = clean_text(text);
    if (options_.handle_chinese_chars) text = space_ideographs(text);
    if (options_.strip_accents && !is_ascii(text))
      text = strip_nonspacing_marks(decompose_.apply(std::move(text), growth));
    return options_.lowercase ? to_lower(text) : text;
  }

 private:
  BertNormalizerOptions options_;
  NormalForm decompose_;
};

std::unique_ptr<NormalizerStep> make_step(const JsonObject& description) {
  constexpr int kCompose = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
  constexpr int kDecompose = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  const std::string type = description.string("type");
  if (type == "NFC") return std::make_unique<NormalForm>(kCompose);
  if (type == "NFD") return std::make_unique<NormalForm>(kDecompose);
  if (type == "NFKC") return std::make_unique<NormalForm>(kCompose | UTF8PROC_COMPAT);
  if (type == "NFKD") return std::make_unique<NormalForm>(kDecompose | UTF8PROC_COMPAT);
  if (type == "Lowercase") return mapping([](const std::string& text) { return to_lower(text); });
  if (type == "StripAccents") return mapping(strip_accents);
  if (type == "ByteLevel") return mapping([](const std::string& text) { return to_byte_level(text); });
  if (type == "BertNormalizer") return std::make_unique<BertNormalizer>(description);
  if (type == "Precompiled") return std::make_unique<Precompiled>(description);
  if (type == "Strip") {
    const bool left = description.boolean("strip_left");
    const bool right = description.boolean("strip_right");
    return mapping([left, right](const std::string& text) { return strip(text, left, right); });
  }
  if (type == "Prepend") {
    return mapping([prefix = short_string(description, "prepend")](const std::string& text) {
      return text.empty() ? text : prefix + text;
    });
  }
  if (type == "Replace") {
    return std::make_unique<Replace>(make_pattern(description, "pattern"),
                                     short_string(description, "content"));
  }
  throw Unsupported(
      fmt::format("{}: {} \"{}\" is not supported; known are NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, "
                  "Strip, Prepend, Replace, ByteLevel, BertNormalizer, Precompiled and Sequence",
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
