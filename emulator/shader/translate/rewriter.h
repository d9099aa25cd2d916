#pragma once
// Rewrites ranges of Metal tokens to C++: address spaces, literals, attributes, casts. Knows nothing of
// kernels but which names they have, and whether a range lies in the body of one.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "lexer.h"

namespace translate {

using Tokens = std::vector<Token>;

/// Tokens [begin, end).
struct Range {
  std::size_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

bool is_address_space(const Token& token);
/// Whether `[[` starts at i.
bool starts_attribute(const Tokens& tokens, std::size_t i);
/// One past the bracket, brace or parenthesis that closes the one at i.
std::size_t past_closing(const Tokens& tokens, std::size_t i);
/// One past the `>` that closes the `<` at i.
std::size_t past_angle(const Tokens& tokens, std::size_t i);
/// The text of the tokens with single spaces between them.
std::string plain_text(const Tokens& tokens, Range range);

class Rewriter {
 public:
  explicit Rewriter(const Tokens& tokens) : tokens_(tokens) {}

  std::set<std::string, std::less<>> kernel_templates;  // names after which template arguments need one more
  std::set<std::string, std::less<>> function_constants;

  std::string rewrite(Range range);

  /// Between these calls `threadgroup` objects may be declared; their names are returned at the end.
  void begin_kernel();
  std::vector<std::string> end_kernel();

 private:
  struct Declaration;

  std::size_t emit(std::size_t i, std::size_t end, std::string& out);
  std::size_t emit_identifier(std::size_t i, std::size_t end, std::string& out);
  std::size_t emit_address_of(std::size_t i, std::size_t end, std::string& out);
  std::size_t emit_declaration(std::size_t i, std::size_t end, std::string& out);
  std::size_t emit_pointer(const Declaration& declaration, std::string& out);
  std::size_t emit_array_reference(const Declaration& declaration, std::size_t end, std::string& out);
  std::size_t emit_object(const Declaration& declaration, std::size_t end, std::string& out);
  std::size_t emit_array_parameter(const Declaration& declaration, std::size_t end, std::string& out);
  std::size_t emit_shared(const Declaration& declaration, std::size_t end, std::string& out);
  std::string type_text(Range range);
  std::size_t past_type(std::size_t i, std::size_t end) const;
  bool address_of_is_unary(std::size_t i) const;

  const Tokens& tokens_;
  std::set<std::size_t> casts_;  // closing parentheses of casts
  bool in_kernel_ = false;
  std::vector<std::string> shared_;
};

}  // namespace translate
