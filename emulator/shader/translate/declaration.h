#pragma once
// Declarations of Metal source: where they start and end, what stands before their bodies, and their
// attributes.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rewriter.h"

namespace translate {

/// What stands before the body or the end of a declaration.
struct Head {
  bool is_template = false, is_instantiation = false, is_kernel = false, is_struct = false;
  Range template_parameters;
  std::vector<std::size_t> attributes;  // where `[[` starts, before the parameters
  std::size_t after_template = 0;
  std::size_t parenthesis = 0;  // the first at depth 0; 0 if there is none
  std::string name;             // the identifier before it
};

/// Where the declaration that starts at i ends: after its `;` or after the body of a function.
std::size_t declaration_end(const Tokens& tokens, std::size_t i, std::size_t end);
Head read_head(const Tokens& tokens, std::size_t i, std::size_t end);

/// Calls visit(head, range) for each declaration of [begin, end), those inside of its namespaces too;
/// directives and empty declarations are passed over.
void for_each_declaration(const Tokens& tokens, std::size_t begin, std::size_t end,
                          const std::function<void(const Head&, Range)>& visit);

bool attribute_has(const Tokens& tokens, std::size_t attribute, std::string_view word);
/// The text in the parentheses after `word` in an attribute.
std::optional<Range> attribute_argument(const Tokens& tokens, std::size_t attribute, std::string_view word);
/// Splits at commas outside of brackets and template arguments.
std::vector<Range> split_parameters(const Tokens& tokens, Range range);
/// The string that neighbouring literals make.
std::string joined(const Tokens& tokens, Range range);
/// As a C++ string literal.
std::string quoted(std::string_view text);

}  // namespace translate
