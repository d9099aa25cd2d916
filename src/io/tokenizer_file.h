#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/io/tokenizer.h>

#include "io/bpe.h"
#include "io/json.h"

namespace candela::io {

/// A tokenizer.json, parsed: the vocabulary and the merges as plain lists (a tree of 300,000 nodes would take
/// most of the loading time), all other fields as a document.
struct TokenizerFile {
  JsonTree document;
  std::vector<std::pair<std::string, std::int64_t>> vocabulary;
  std::vector<std::pair<std::string, double>> scored_vocabulary;
  std::vector<Merge> merges;
  bool has_vocabulary = false;
  bool has_scored_vocabulary = false;
  bool has_merges = false;
};

/// IoError (`source`, field) unless `text` is JSON with `model.vocab` an object of integers or
/// (Unigram's) a list of pairs of token and score, and `model.merges` a list of strings "left right" or of
/// pairs.
TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& source);

/// The fields `truncation` and `padding`; none where absent. IoError naming the field that is wrong.
std::optional<Truncation> read_truncation(const JsonObject& file);
std::optional<Padding> read_padding(const JsonObject& file);

}  // namespace candela::io
