#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace candela::io {

/// A part of the text that the model encodes on its own. `at_start`: it begins where the whole input begins.
struct Piece {
  std::string_view text;
  bool at_start = false;
};

/// The pieces of one stretch of text, and the strings that steps made on the way (pieces point into them).
struct Pieces {
  std::vector<Piece> pieces;
  std::deque<std::string> storage;

  std::string_view keep(std::string text) { return storage.emplace_back(std::move(text)); }
};

/// One step that cuts or rewrites pieces.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void apply(Pieces& pieces) const = 0;
};

/// The pre-tokenizer of a tokenizer.json: its steps in order.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// Unsupported with file and type for a step that is not known.
  explicit PreTokenizer(const JsonObject& description);

  /// Cuts `text` (valid UTF-8). Where `byte_level()` is true, the pieces are still plain bytes, to be written
  /// in the byte-level alphabet by whoever looks them up: with a cache of words that is rarely needed.
  void apply(Pieces& pieces) const;
  bool byte_level() const { return byte_level_; }

 private:
  void add(const JsonObject& description, bool last);

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool byte_level_ = false;
};

/// How a Metaspace component treats the start of text.
enum class PrependScheme { Always, First, Never };
PrependScheme read_prepend_scheme(const JsonObject& description);

}  // namespace candela::io
