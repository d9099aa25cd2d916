#pragma once

#include <string>

#include <candela/io/dataset.h>
#include <candela/io/tokenizer.h>

namespace candela::cli {

/// The text of a sample as training sees it: what is trained stands out, green where `colour`, else in ⟦ ⟧.
/// Control characters but line breaks and tabs are escaped.
std::string marked_text(const Sample& sample, const Tokenizer& tokenizer, bool colour);

}  // namespace candela::cli
