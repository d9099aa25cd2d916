#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/pattern.h"

namespace candela::io {

/// One step that rewrites text (valid UTF-8).
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  virtual std::string apply(std::string text, Growth& growth) const = 0;
};

/// Rewrites text before it is cut into pieces: the steps of a tokenizer.json's field `normalizer`, in order.
class Normalizer {
 public:
  /// Without the field, no step. Unsupported with file and type for one that is not known.
  explicit Normalizer(const JsonObject& file);

  /// What becomes of `text`, which is the current part of what `growth` measures.
  std::string apply(std::string text, Growth& growth) const;
  bool empty() const { return steps_.empty(); }

 private:
  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

}  // namespace candela::io
