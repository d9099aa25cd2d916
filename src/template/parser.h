#pragma once

#include <string_view>

#include "template/ast.h"

namespace candela::jinja {

/// The tree of a template; throws SyntaxFailure. Nesting is bounded.
Body parse(std::string_view source);

}  // namespace candela::jinja
