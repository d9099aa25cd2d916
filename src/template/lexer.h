#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace candela::jinja {

enum class TokenKind : std::uint8_t {
  Data,           // text between tags
  VariableBegin,  // {{
  VariableEnd,
  BlockBegin,  // {%
  BlockEnd,
  Name,
  String,
  Integer,
  Float,
  Operator,
  End,
};

struct Token {
  TokenKind kind;
  std::string text;  // of a string: what it stands for
  int line;
};

/// Tokens of a template, white space taken out as Jinja does with trim_blocks and lstrip_blocks: one line
/// break after a block tag or comment, and blanks before one at the start of a line. Fails with
/// TemplateSyntaxError. `source` must be valid UTF-8.
std::vector<Token> tokenize(std::string_view source);

/// A failure of the template's text, with its line.
struct SyntaxFailure {
  std::string message;
  int line;
};

}  // namespace candela::jinja
