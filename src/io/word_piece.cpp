#include "io/word_piece.h"

#include <algorithm>
#include <optional>

#include "io/utf8.h"

namespace candela::io {

WordPieceOptions read_word_piece_options(const JsonObject& model) {
  constexpr std::int64_t kMostChars = 10000;  // the search is quadratic in it
  WordPieceOptions options;
  options.unk_token = model.string("unk_token", options.unk_token);
  options.prefix = short_string(model, "continuing_subword_prefix", options.prefix);
  options.max_chars = model.positive("max_input_chars_per_word", options.max_chars);
  if (options.max_chars > kMostChars)
    model.fail("max_input_chars_per_word", fmt::format("at most {}", kMostChars));
  return options;
}

WordPiece::WordPiece(std::vector<std::pair<std::string, std::int64_t>> vocabulary, WordPieceOptions options,
                     const std::string& source)
    : vocabulary_(std::move(vocabulary), source), options_(std::move(options)) {
  require<IoError>(vocabulary_.size() > 0, "{}: model.vocab must hold tokens; it is empty", source);
  const auto unk = vocabulary_.find(options_.unk_token);
  require<IoError>(unk.has_value(), "{}: model.unk_token must be in model.vocab; got {:?}", source,
                   options_.unk_token);
  unk_ = *unk;
  longest_ = vocabulary_.longest();
}

void WordPiece::encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const {
  if (piece.empty()) return;
  std::vector<std::size_t> ends;  // of the characters, in bytes
  for (std::size_t i = 0; i < piece.size();) {
    i += code_point_at(piece, i).bytes;
    ends.push_back(i);
    if (ends.size() > static_cast<std::size_t>(options_.max_chars)) {
      ids.push_back(unk_);
      return;
    }
  }
  const std::size_t before = ids.size();
  std::string token;
  std::size_t begin = 0;
  std::size_t first = 0;  // the character that begins at `begin`
  while (begin < piece.size()) {
    token = begin == 0 ? "" : options_.prefix;
    const std::size_t opening = token.size();
    token += piece.substr(begin, std::min(piece.size() - begin, longest_));
    std::size_t last = ends.size();
    std::optional<std::int32_t> found;
    for (; last > first; --last) {
      const std::size_t bytes = opening + ends[last - 1] - begin;
      if (bytes > token.size()) continue;
      found = vocabulary_.find(std::string_view(token).substr(0, bytes));
      if (found) break;
    }
    if (!found) {
      ids.resize(before);
      ids.push_back(unk_);
      return;
    }
    ids.push_back(*found);
    growth.check(ids.size() - before);
    begin = ends[last - 1];
    first = last;
  }
}

}  // namespace candela::io
