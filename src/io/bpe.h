#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/components.h"
#include "io/json.h"
#include "io/token_model.h"

namespace candela::io {

/// What of the field `model` of a tokenizer.json is not its vocabulary or merges.
struct BpeOptions {
  std::string unk_token;
  bool has_unk = false;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
  /// pieces come in the byte-level alphabet, as the pre-tokenizer says
  bool byte_level = false;
  /// continuing_subword_prefix
  std::string prefix;
  /// end_of_word_suffix
  std::string suffix;
};
BpeOptions read_bpe_options(const JsonObject& model);

using Merge = std::pair<std::string, std::string>;

/// Byte-pair encoding: starts from characters and joins the pair of lowest rank (leftmost first) until none
/// is left.
class Bpe final : public TokenModel {
 public:
  /// IoError (with `source`) if the vocabulary is empty, a merge names a token that it lacks, or the unknown
  /// token is not in it.
  Bpe(std::vector<std::pair<std::string, std::int64_t>> vocabulary, const std::vector<Merge>& merges,
      BpeOptions options, const std::string& source);

  /// Appends the ids of one piece (valid UTF-8). A character that is not in the vocabulary becomes byte
  /// tokens or the unknown token where the model has them. Where it has neither, it vanishes as in Hugging
  /// Face's tokenizers, but for a byte of a byte-level model: those are to hold any text, so one that lacks a
  /// byte is broken and throws Unsupported naming it.
  /// `growth` measures the tokens that become of one piece.
  void encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const override;

  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  struct Symbol {
    std::int32_t id;
    std::int32_t previous;  // index, or -1
    std::int32_t next;      // index, or -1
  };
  struct Rule {
    std::uint64_t pair;  // left id << 32 | right id
    std::int32_t rank;
    std::int32_t joined;
  };

  const Rule* find_rule(std::int32_t left, std::int32_t right) const;
  void add_rule(const Rule& rule);
  std::vector<Symbol> symbols_of(std::string_view piece, Growth& growth) const;
  bool add_byte_tokens(std::string_view character, std::vector<Symbol>& symbols) const;
  /// `character` of a piece has no token of any kind.
  void drop(std::string_view character) const;

  Vocabulary vocabulary_;
  BpeOptions options_;
  std::string source_;
  std::optional<std::int32_t> unk_;
  std::vector<std::int32_t> byte_tokens_;  // 256 ids or -1; empty without byte_fallback
  std::vector<Rule> rules_;                // open addressing, a power of two long, rank -1 where free
  std::uint64_t seed_;                     // of the hash that gives a pair its place in rules_
};

}  // namespace candela::io
