#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/json.h"

namespace candela::io {

/// Rewrites the texts of tokens into what they stand for; the results are joined.
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::vector<std::string> apply(std::vector<std::string> tokens) const = 0;
};

/// The field `decoder`; Unsupported with file and type for one that is not known.
std::unique_ptr<Decoder> make_decoder(const JsonObject& description);

}  // namespace candela::io
