#include "io/decoder.h"

#include <algorithm>

#include "io/byte_level.h"
#include "io/pre_tokenizer.h"
#include "io/utf8.h"

namespace candela::io {
namespace {

using Tokens = std::vector<std::string>;

std::size_t total_bytes(const Tokens& tokens) {
  std::size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  return bytes;
}

class ByteLevel final : public DecoderStep {
 public:
  Tokens apply(Tokens tokens, Growth&) const override {
    std::string bytes;
    for (const std::string& token : tokens) append_from_byte_level(bytes, token);
    return {lossy_utf8(bytes)};
  }
};

/// `<0x41>` is the byte 0x41. A run of such bytes that is not valid UTF-8 becomes one U+FFFD per byte.
class ByteFallback final : public DecoderStep {
 public:
  Tokens apply(Tokens tokens, Growth&) const override {
    Tokens result;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (is_valid_utf8(bytes)) {
        result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const int byte = byte_of(token); byte >= 0) {
        bytes += static_cast<char>(byte);
      } else {
        flush();
        result.push_back(std::move(token));
      }
    }
    flush();
    return result;
  }

 private:
  static int byte_of(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
    int value = 0;
    for (const char c : {token[3], token[4]}) {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                               : -1;
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }
};

class Fuse final : public DecoderStep {
 public:
  Tokens apply(Tokens tokens, Growth&) const override {
    std::string joined;
    for (const std::string& token : tokens) joined += token;
    return {std::move(joined)};
  }
};

class Replace final : public DecoderStep {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Tokens apply(Tokens tokens, Growth& growth) const override {
    std::size_t done = 0;
    for (std::string& token : tokens) {
      token = pattern_.replace(token, content_, growth, done);
      done += token.size();
    }
    return tokens;
  }

 private:
  Pattern pattern_;
  std::string content_;
};

/// Takes up to `start` copies of `content` off the start of each token and up to `stop` off its end.
class Strip final : public DecoderStep {
 public:
  Strip(std::string content, std::int64_t start, std::int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  Tokens apply(Tokens tokens, Growth&) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::int64_t i = 0; i < start_ && rest.starts_with(content_); ++i)
        rest.remove_prefix(content_.size());
      for (std::int64_t i = 0; i < stop_ && rest.ends_with(content_); ++i)
        rest.remove_suffix(content_.size());
      token = std::string(rest);
    }
    return tokens;
  }

 private:
  std::string content_;
  std::int64_t start_;
  std::int64_t stop_;
};

/// Writes each mark as a space; in the first token it vanishes where the scheme had put it.
class Metaspace final : public DecoderStep {
 public:
  Metaspace(std::string mark, PrependScheme scheme)
      : mark_(Pattern::literal(std::move(mark))), scheme_(scheme) {}

  Tokens apply(Tokens tokens, Growth& growth) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = mark_.replace(tokens[i], i == 0 && scheme_ != PrependScheme::Never ? "" : " ", growth);
    }
    return tokens;
  }

 private:
  Pattern mark_;
  PrependScheme scheme_;
};

/// Writes the end-of-word suffix as a space, and as nothing in the last token.
class BpeSuffix final : public DecoderStep {
 public:
  explicit BpeSuffix(std::string suffix) : suffix_(Pattern::literal(std::move(suffix))) {}

  Tokens apply(Tokens tokens, Growth& growth) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = suffix_.replace(tokens[i], i + 1 == tokens.size() ? "" : " ", growth);
    }
    return tokens;
  }

 private:
  Pattern suffix_;
};

/// Joins tokens to words: one that opens with the prefix continues its word, before any other stands a space.
/// `cleanup` also takes the space before English punctuation and contractions away.
class WordPieceDecoder final : public DecoderStep {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup) : prefix_(std::move(prefix)) {
    if (!cleanup) return;
    for (const auto& [from, to] :
         std::initializer_list<std::pair<const char*, const char*>>{{" .", "."},
                                                                    {" ?", "?"},
                                                                    {" !", "!"},
                                                                    {" ,", ","},
                                                                    {" ' ", "'"},
                                                                    {" n't", "n't"},
                                                                    {" 'm", "'m"},
                                                                    {" do not", " don't"},
                                                                    {" 's", "'s"},
                                                                    {" 've", "'ve"},
                                                                    {" 're", "'re"}}) {
      cleanups_.emplace_back(Pattern::literal(from), to);
    }
  }

  Tokens apply(Tokens tokens, Growth& growth) const override {
    std::size_t done = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0) token = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
      for (const auto& [pattern, content] : cleanups_) token = pattern.replace(token, content, growth, done);
      done += token.size();
    }
    return tokens;
  }

 private:
  std::string prefix_;
  std::vector<std::pair<Pattern, std::string>> cleanups_;
};

std::int64_t count(const JsonObject& description, const char* key) {
  const std::int64_t value = description.integer(key);
  if (value < 0) description.fail(key, "a number of characters");
  return value;
}

std::unique_ptr<DecoderStep> make_step(const JsonObject& description) {
  const std::string type = description.string("type");
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Replace") {
    return std::make_unique<Replace>(make_pattern(description, "pattern"),
                                     short_string(description, "content"));
  }
  if (type == "Strip") {
    return std::make_unique<Strip>(one_character(description, "content"), count(description, "start"),
                                   count(description, "stop"));
  }
  if (type == "Metaspace") {
    return std::make_unique<Metaspace>(one_character(description, "replacement", "\xE2\x96\x81"),
                                       read_prepend_scheme(description));
  }
  if (type == "BPEDecoder") {
    std::string suffix = short_string(description, "suffix", "</w>");
    if (suffix.empty()) description.fail("suffix", "a non-empty string");
    return std::make_unique<BpeSuffix>(std::move(suffix));
  }
  if (type == "WordPiece") {
    return std::make_unique<WordPieceDecoder>(short_string(description, "prefix", "##"),
                                              description.boolean("cleanup", true));
  }
  throw Unsupported(
      fmt::format("{}: {} \"{}\" is not supported; known are ByteLevel, ByteFallback, Fuse, Replace, Strip, "
                  "Metaspace, BPEDecoder, WordPiece and Sequence",
                  description.source(), description.path_of("type"), type));
}

}  // namespace

Decoder::Decoder(const JsonObject& file) : source_(file.source()) {
  for (const JsonObject& component : components(file, "decoder", "decoders")) {
    steps_.push_back(make_step(component));
  }
}

Tokens Decoder::apply(Tokens tokens) const {
  Growth growth(total_bytes(tokens), source_);
  for (const auto& step : steps_) {
    tokens = step->apply(std::move(tokens), growth);
    growth.check(total_bytes(tokens));
  }
  return tokens;
}

}  // namespace candela::io
