#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/components.h"
#include "io/json.h"
#include "io/regex.h"

namespace candela::io {

/// What tokenizer.json calls a pattern: a string taken literally, or a regular expression.
class Pattern {
 public:
  static Pattern literal(std::string text);
  static Pattern regex(std::string_view expression, std::string where,
                       PatternSyntax syntax = PatternSyntax::Oniguruma);

  /// All matches from the left, without overlap.
  std::vector<Span> find_all(std::string_view text) const;
  /// `text` with every match replaced by `content`, taken literally. `beside`: what `growth` is to count with
  /// the result.
  std::string replace(std::string_view text, std::string_view content, Growth& growth,
                      std::size_t beside = 0) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

/// Reads `{"String": "..."}` or `{"Regex": "..."}` from the field `key`.
Pattern make_pattern(const JsonObject& description, const char* key);

}  // namespace candela::io
