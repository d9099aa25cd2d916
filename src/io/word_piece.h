#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"
#include "io/token_model.h"

namespace candela::io {

/// The fields of a WordPiece `model` beside its vocabulary.
struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string prefix = "##";  ///< continuing_subword_prefix: opens each token that does not start its word
  /// max_input_chars_per_word: a longer word is unknown as a whole
  std::int64_t max_chars = 100;
};
WordPieceOptions read_word_piece_options(const JsonObject& model);

/// WordPiece (Schuster and Nakajima, 2012; the greedy search of BERT): the longest token that starts the
/// word, then the longest that continues it, and so on. A word that cannot be covered is the unknown token.
class WordPiece final : public TokenModel {
 public:
  /// IoError (with `source`) if the vocabulary is empty or the unknown token is not in it.
  WordPiece(std::vector<std::pair<std::string, std::int64_t>> vocabulary, WordPieceOptions options,
            const std::string& source);

  void encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  WordPieceOptions options_;
  std::int32_t unk_ = -1;
  std::size_t longest_ = 0;  // bytes of the longest token, prefix included
};

}  // namespace candela::io
