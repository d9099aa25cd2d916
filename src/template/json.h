#pragma once

#include <string>
#include <string_view>

#include "template/value.h"

namespace candela::jinja {

/// The value of a JSON text, objects in the order of their keys, a repeated key having its last value. Fails
/// with ValueError for what is no JSON, nests deeper than kMaxDepth or has an integer beyond 64 bits.
Value parse_json(std::string_view text);

}  // namespace candela::jinja
