#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/json.h"
#include "io/normalizer.h"
#include "io/regex.h"
#include "io/seeded_hash.h"
#include "io/vocabulary.h"

namespace candela::io {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  /// only where no word character touches it
  bool single_word = false;
  /// takes the white space before it
  bool lstrip = false;
  /// takes the white space after it
  bool rstrip = false;
  /// looked for in normalized text
  bool normalized = false;
  /// left out when decoding without special tokens
  bool special = false;
};

/// A stretch of text between added tokens, or (id >= 0) one added token.
struct Segment {
  Span span;
  std::int32_t id = -1;
};

/// Finds the leftmost, and there the longest, of a set of strings.
class TokenMatcher {
 public:
  struct Entry {
    std::string text;
    std::size_t index;
  };
  TokenMatcher() = default;
  /// An empty text is never found; of several entries with one text, the last is.
  explicit TokenMatcher(std::vector<Entry> entries);

  struct Match {
    Span span;
    std::size_t index;
  };
  /// All matches from the left without overlap.
  std::vector<Match> find_all(std::string_view text) const;

 private:
  /// The match of most bytes at the start of `text`; its span is empty if there is none.
  Match longest(std::string_view text) const;

  std::vector<Entry> entries_;             // sorted by their bytes, all different
  std::array<std::size_t, 257> begins_{};  // entries that start with byte b: [begins_[b], begins_[b + 1])
};

/// The field `added_tokens` of a tokenizer.json.
class AddedTokens {
 public:
  /// IoError if an id contradicts the vocabulary.
  AddedTokens(const JsonObject& file, const Vocabulary& vocabulary, const Normalizer& normalizer);

  /// Cuts raw text at the tokens that are matched before normalization, and normalized text at the others.
  std::vector<Segment> split_raw(std::string_view text) const { return split(text, raw_); }
  std::vector<Segment> split_normalized(std::string_view text) const { return split(text, normalized_); }

  const AddedToken* find(std::string_view content) const;
  const AddedToken* find(std::int64_t id) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  std::vector<Segment> split(std::string_view text, const TokenMatcher& matcher) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t, StringHash, std::equal_to<>> by_content_;
  std::unordered_map<std::int64_t, std::size_t> by_id_;
  TokenMatcher raw_;
  TokenMatcher normalized_;
  Regex word_start_;
  Regex word_end_;
};

}  // namespace candela::io
