#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/pattern.h"

namespace candela::io {

/// One step that rewrites the texts of tokens.
class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  virtual std::vector<std::string> apply(std::vector<std::string> tokens, Growth& growth) const = 0;
};

/// Rewrites the texts of tokens into what they stand for: the steps of a tokenizer.json's field `decoder`, in
/// order. The results are joined.
class Decoder {
 public:
  /// Unsupported with file and type for a step that is not known.
  explicit Decoder(const JsonObject& file);

  std::vector<std::string> apply(std::vector<std::string> tokens) const;

 private:
  std::string source_;
  std::vector<std::unique_ptr<DecoderStep>> steps_;
};

}  // namespace candela::io
