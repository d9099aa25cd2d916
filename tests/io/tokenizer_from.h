#pragma once

#include <nlohmann/json.hpp>

#include <candela/io/tokenizer.h>

namespace candela::test {

/// The tokenizer of a document; errors call it t.json.
inline Tokenizer from(const nlohmann::json& document) {
  return Tokenizer::parse(document.dump(), "t.json");
}

}  // namespace candela::test
