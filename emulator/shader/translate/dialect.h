#pragma once
// What C++ has and the Metal Shading Language 3.0 has not, as far as the tokens of a source tell.

#include "rewriter.h"

namespace translate {

/// Throws SourceError for the first thing that the language does not have. What needs types to be seen is
/// left to the compilers of the translation (../README.md).
void check_dialect(const Tokens& tokens);

}  // namespace translate
