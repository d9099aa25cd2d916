#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"
#include "io/token_model.h"

namespace candela::io {

/// The fields of a Unigram `model` beside its vocabulary.
struct UnigramOptions {
  std::optional<std::int64_t> unk_id;
  /// an unknown character becomes its bytes' tokens <0x00> to <0xFF>
  bool byte_fallback = false;
};
UnigramOptions read_unigram_options(const JsonObject& model);

/// Unigram language model (Kudo, 2018), as SentencePiece runs it: the segmentation of the text whose tokens'
/// scores (log probabilities) have the largest sum. A character that no token covers alone may also be
/// unknown, at the least score of all less 10; a run of unknown characters is one token.
class Unigram final : public TokenModel {
 public:
  using Scored = std::pair<std::string, double>;

  /// The id of a token is its place in `vocabulary`. IoError (with `source`) if there is no token, one
  /// occurs twice, unk_id is none of them, or they have more than 2^24 different prefixes.
  Unigram(const std::vector<Scored>& vocabulary, UnigramOptions options, const std::string& source);

  /// InvalidArgument for a character without a token where the model has no unknown token.
  void encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// The best segmentation up to a byte of the piece.
  struct Best {
    double score = 0;
    std::int64_t begin = -1;  // of its last token; -1: not reached
    std::int32_t id = -1;     // of its last token; -1: unknown
  };
  /// A prefix of tokens. The children of a node lie side by side, in order of their bytes.
  struct Node {
    std::uint32_t first_child = 0;
    std::uint16_t child_count = 0;
    std::uint8_t byte = 0;
    std::int32_t id = -1;  // of the token that ends here
  };

  void build_trie(const std::vector<Scored>& vocabulary);
  const Node* child(const Node& node, char byte) const;
  std::vector<Best> search(std::string_view piece) const;
  void add_unknown(std::string_view text, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  UnigramOptions options_;
  std::string source_;
  std::vector<double> scores_;
  double unk_score_ = 0;
  std::vector<Node> nodes_;
  std::vector<std::int32_t> byte_tokens_;  // 256 ids or -1; empty without byte_fallback
};

}  // namespace candela::io
