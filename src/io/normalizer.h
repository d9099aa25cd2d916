#pragma once

#include <memory>
#include <string>

#include "io/json.h"

namespace candela::io {

/// Rewrites text (valid UTF-8) before it is cut into pieces.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string apply(std::string text) const = 0;
};

/// The normalizer that `description` (the field `normalizer` of a tokenizer.json) asks for; Unsupported with
/// file and type for one that is not known.
std::unique_ptr<Normalizer> make_normalizer(const JsonObject& description);

}  // namespace candela::io
