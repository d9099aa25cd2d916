#pragma once
// Tokens of preprocessed Metal source. The text before each token is kept, so that what is not rewritten
// stays as it was.

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace translate {

enum class Kind { Identifier, Number, String, Character, Punctuation, Directive, End };

struct Token {
  Kind kind = Kind::End;
  std::string_view space;  // white space before it
  std::string_view text;
  int line = 0;  // in the original file
  std::string_view file;

  bool is(std::string_view what) const { return text == what; }
  bool is_identifier() const { return kind == Kind::Identifier; }
};

/// What is wrong with the source, as "file:line: text".
class SourceError : public std::runtime_error {
 public:
  SourceError(const Token& at, const std::string& what);
};

/// Splits preprocessed text, which must outlive the tokens. Ends with a token of kind kEnd.
std::vector<Token> lex(std::string_view text);

}  // namespace translate
