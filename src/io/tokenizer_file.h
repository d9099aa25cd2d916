#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/bpe.h"
#include "io/json.h"

namespace candela::io {

/// A tokenizer.json, parsed: the vocabulary and the merges as plain lists (a tree of 300,000 nodes would take
/// most of the loading time), all other fields as a document.
struct TokenizerFile {
  Json document;
  std::vector<std::pair<std::string, std::int64_t>> vocabulary;
  std::vector<Merge> merges;
  bool has_vocabulary = false;
  bool has_merges = false;
};

/// IoError (`source`, field) unless `text` is JSON with `model.vocab` an object of integers and
/// `model.merges` a list of strings "left right" or of pairs. A vocabulary in another form (as other model
/// types have) stays in the document.
TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& source);

}  // namespace candela::io
