#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "io/components.h"
#include "io/vocabulary.h"

namespace candela::io {

/// The field `model` of a tokenizer.json: turns one piece of text into ids.
class TokenModel {
 public:
  TokenModel() = default;
  TokenModel(const TokenModel&) = delete;
  TokenModel& operator=(const TokenModel&) = delete;
  virtual ~TokenModel() = default;

  /// Appends the ids of `piece` (valid UTF-8). `growth` measures the tokens made of one piece. Thread-safe.
  virtual void encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

}  // namespace candela::io
