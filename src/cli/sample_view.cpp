#include "cli/sample_view.h"

#include <span>

#include "cli/output.h"

namespace candela::cli {

std::string marked_text(const Sample& sample, const Tokenizer& tokenizer, bool colour) {
  std::string text;
  for (std::size_t begin = 0; begin < sample.ids.size();) {
    // A stretch is decoded as a whole: characters may take several tokens.
    std::size_t end = begin;
    while (end < sample.ids.size() && sample.trained[end] == sample.trained[begin]) ++end;
    const std::string part =
        escaped(tokenizer.decode(std::span(sample.ids).subspan(begin, end - begin), false));
    if (sample.trained[begin] == 0)
      text += part;
    else if (colour)
      text += "\033[32m" + part + "\033[0m";
    else
      text += "⟦" + part + "⟧";
    begin = end;
  }
  return text;
}

}  // namespace candela::cli
