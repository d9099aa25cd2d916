#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/pattern.h"

namespace candela::io {

/// A part of the text that the model encodes on its own. `at_start`: it begins where the whole input begins.
struct Piece {
  std::string_view text;
  bool at_start = false;
};

/// The pieces of one stretch of text; where a step rewrote them, they point into `storage`.
struct Pieces {
  std::vector<Piece> pieces;
  std::string storage;
};

/// One step that cuts or rewrites pieces.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void apply(Pieces& pieces, Growth& growth) const = 0;
};

/// The field `pre_tokenizer` of a tokenizer.json: its steps in order.
class PreTokenizer {
 public:
  /// Without the field, no step. Unsupported with file and type for one that is not known.
  explicit PreTokenizer(const JsonObject& file);

  /// Cuts `pieces` (valid UTF-8), the current part of what `growth` measures. Where `byte_level()` is true,
  /// they are still plain bytes, to be written in the byte-level alphabet by whoever looks them up: with a
  /// cache of words that is rarely needed.
  void apply(Pieces& pieces, Growth& growth) const;
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
