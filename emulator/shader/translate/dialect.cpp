#include "dialect.h"

#include <algorithm>
#include <array>
#include <map>

#include "declaration.h"

namespace translate {
namespace {

struct Refused {
  std::string_view word, reason;
};
constexpr std::array<Refused, 26> kRefused = {{
    {"double", "there is no double in Metal"},
    {"goto", "there is no goto in Metal"},
    {"virtual", "there are no virtual functions in Metal"},
    {"new", "there is no new in Metal"},
    {"throw", "there are no exceptions in Metal"},
    {"try", "there are no exceptions in Metal"},
    {"catch", "there are no exceptions in Metal"},
    {"typeid", "there is no type identification in Metal"},
    {"dynamic_cast", "there is no type identification in Metal"},
    {"thread_local", "there is no thread_local in Metal"},
    {"register", "there is no register in Metal"},
    {"asm", "there is no asm in Metal"},
    {"concept", "concepts are C++20; Metal 3.0 is based on C++14"},
    {"requires", "concepts are C++20; Metal 3.0 is based on C++14"},
    {"consteval", "consteval is C++20; Metal 3.0 is based on C++14"},
    {"constinit", "constinit is C++20; Metal 3.0 is based on C++14"},
    {"co_await", "coroutines are C++20; Metal 3.0 is based on C++14"},
    {"co_yield", "coroutines are C++20; Metal 3.0 is based on C++14"},
    {"co_return", "coroutines are C++20; Metal 3.0 is based on C++14"},
    {"bfloat", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
    {"bfloat2", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
    {"bfloat3", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
    {"bfloat4", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
    {"packed_bfloat2", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
    {"packed_bfloat4", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
    {"simdgroup_bfloat8x8", "bfloat needs Metal 3.1; shaders here are Metal 3.0"},
}};

/// A source of tokens with what is around each.
class Checker {
 public:
  explicit Checker(const Tokens& tokens) : tokens_(tokens), end_(tokens.size() - 1) {}

  void run() {
    for (std::size_t i = 0; i < end_; ++i) {
      check_word(i);
      check_brackets(i);
    }
    check_declarations(0, end_, false);
    check_calls();
  }

 private:
  bool is(std::size_t i, std::string_view text) const { return i < end_ && tokens_[i].is(text); }
  bool before(std::size_t i, std::string_view text) const { return i > 0 && tokens_[i - 1].is(text); }
  bool is_name(std::size_t i) const { return i < end_ && tokens_[i].is_identifier(); }
  [[noreturn]] void refuse(std::size_t i, const std::string& reason) const {
    throw SourceError(tokens_[i], reason);
  }

  void check_word(std::size_t i) const;
  void check_brackets(std::size_t i) const;
  void check_declarations(std::size_t begin, std::size_t end, bool in_struct);
  void check_declaration(const Head& head, Range range, bool in_struct);
  void check_variable(const Head& head, Range range, bool in_struct) const;
  void check_signature(const Head& head, std::size_t close) const;
  void check_body(Range body) const;
  bool names_space(Range range) const;
  std::size_t reference_in(Range range) const;
  std::size_t past_plain_type(std::size_t i, std::size_t end) const;
  void check_calls() const;

  const Tokens& tokens_;
  const std::size_t end_;
  /// Bodies of the functions at namespace scope by name; a name that occurs twice may be an overload of
  /// itself.
  std::map<std::string, std::vector<Range>, std::less<>> bodies_;
};

void Checker::check_word(std::size_t i) const {
  const Token& token = tokens_[i];
  if (token.kind == Kind::Punctuation) {
    const bool fold = token.is("...") && i > 0 && tokens_[i - 1].kind == Kind::Punctuation &&
                      !before(i, ">") && (is(i + 1, ")") || before(i, "("));
    if (fold) refuse(i, "fold expressions are C++17; Metal 3.0 is based on C++14");
    return;
  }
  if (!token.is_identifier()) return;
  const auto refused =
      std::find_if(kRefused.begin(), kRefused.end(), [&](const Refused& r) { return token.is(r.word); });
  if (refused != kRefused.end()) refuse(i, std::string(refused->reason));
  if (token.is("delete") && !before(i, "=")) refuse(i, "there is no delete in Metal");
  if (token.is("std") && is(i + 1, "::")) refuse(i, "the C++ standard library is not part of Metal");
  if (token.is("long") && is(i + 1, "long")) refuse(i, "there is no long long in Metal: long has 64 bits");
  if (token.is("if") && is(i + 1, "constexpr"))
    refuse(i, "if constexpr is C++17; Metal 3.0 is based on C++14");
  if (token.is("namespace") && is_name(i + 1) && is(i + 2, "::") && !before(i, "using"))
    refuse(i, "nested namespaces in one are C++17; Metal 3.0 is based on C++14");
}

/// Structured bindings and lambdas: a `[` that no name stands before.
void Checker::check_brackets(std::size_t i) const {
  if (!is(i, "[") || starts_attribute(tokens_, i) || (i > 0 && is(i - 1, "["))) return;
  const bool bound = before(i, "auto") || ((before(i, "&") || before(i, "&&")) && i > 1 && is(i - 2, "auto"));
  if (bound) refuse(i, "structured bindings are C++17; Metal 3.0 is based on C++14");
  const bool subscript = i > 0 && (tokens_[i - 1].is_identifier() || before(i, "]") || before(i, ")") ||
                                   tokens_[i - 1].kind == Kind::String);
  if (subscript && !before(i, "return")) return;
  const std::size_t next = past_closing(tokens_, i);
  if (is(next, "(") || is(next, "{")) refuse(i, "there are no lambdas in Metal");
}

/// Of a namespace or the body of a struct.
void Checker::check_declarations(std::size_t begin, std::size_t end, bool in_struct) {
  for (std::size_t i = begin; i < end;) {
    const bool label = in_struct && is_name(i) && is(i + 1, ":");
    if (label || tokens_[i].kind == Kind::Directive || is(i, ";")) {
      i += label ? 2 : 1;
      continue;
    }
    if (is(i, "namespace") || (is(i, "extern") && tokens_[i + 1].kind == Kind::String)) {
      std::size_t brace = i;
      while (brace < end && !is(brace, "{") && !is(brace, ";")) ++brace;
      const std::size_t next = is(brace, "{") ? past_closing(tokens_, brace) : brace + 1;
      if (is(brace, "{")) check_declarations(brace + 1, next - 1, false);
      i = next;
      continue;
    }
    const std::size_t next = declaration_end(tokens_, i, end);
    check_declaration(read_head(tokens_, i, next), {i, next}, in_struct);
    i = next;
  }
}

void Checker::check_declaration(const Head& head, Range range, bool in_struct) {
  if (head.is_instantiation) return;
  const std::size_t first = head.after_template;
  if (is(first, "using") || is(first, "typedef") || is(first, "static_assert") || is(first, "friend") ||
      is(first, "enum"))
    return;
  std::size_t brace = head.parenthesis != 0 ? past_closing(tokens_, head.parenthesis) : first;
  while (brace < range.end && !is(brace, "{") && !is(brace, ";") && !is(brace, "=")) ++brace;
  if (head.is_struct && head.parenthesis == 0) {
    if (is(brace, "{")) check_declarations(brace + 1, past_closing(tokens_, brace) - 1, true);
    return;
  }
  if (head.parenthesis == 0) return check_variable(head, range, in_struct);
  check_signature(head, past_closing(tokens_, head.parenthesis));
  if (!is(brace, "{")) return;
  check_body({brace + 1, range.end});
  if (!in_struct) bodies_[head.name].push_back({brace + 1, range.end});
}

void Checker::check_variable(const Head& head, Range range, bool in_struct) const {
  std::size_t name = head.after_template;
  bool constant = false, is_static = false;
  for (; name < range.end && !is(name, "=") && !is(name, ";") && !is(name, "{"); ++name) {
    if (starts_attribute(tokens_, name)) {
      name = past_closing(tokens_, name) - 1;
      continue;
    }
    constant |= is(name, "constant");
    is_static |= is(name, "static");
  }
  if (!constant && !in_struct)
    refuse(range.begin, "a variable at program scope must be in the constant address space");
  if (!constant && is_static) refuse(range.begin, "a static member must be in the constant address space");
  const Range declared{head.after_template, name};
  if (const std::size_t at = reference_in(declared); at != 0 && !names_space(declared))
    refuse(at, "a pointer or reference must name its address space");
}

bool Checker::names_space(Range range) const {
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (is_address_space(tokens_[i])) return true;
  }
  return false;
}

/// The first `*` or `&` outside of brackets and template arguments; 0 if there is none.
std::size_t Checker::reference_in(Range range) const {
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (is(i, "(") || is(i, "[") || is(i, "{")) {
      i = past_closing(tokens_, i) - 1;
    } else if (is(i, "<") && i > range.begin && tokens_[i - 1].is_identifier()) {
      i = past_angle(tokens_, i) - 1;
    } else if (is(i, "=")) {
      return 0;
    } else if (is(i, "*") || is(i, "&") || is(i, "&&")) {
      return i;
    }
  }
  return 0;
}

/// Pointers and references among the parameters and in the result.
void Checker::check_signature(const Head& head, std::size_t close) const {
  const Range result{head.after_template, head.parenthesis};
  const auto is_operator = [&] {
    for (std::size_t i = result.begin; i < result.end; ++i) {
      if (is(i, "operator")) return true;
    }
    return false;
  };
  if (const std::size_t at = reference_in(result); at != 0 && !names_space(result) && !is_operator())
    refuse(at, "a pointer or reference must name its address space");
  for (const Range& parameter : split_parameters(tokens_, {head.parenthesis + 1, close - 1})) {
    if (const std::size_t at = reference_in(parameter); at != 0 && !names_space(parameter))
      refuse(at, "a pointer or reference must name its address space");
  }
}

/// One past `const ns::type<...>`; i where there is none.
std::size_t Checker::past_plain_type(std::size_t i, std::size_t end) const {
  std::size_t j = i;
  while (is(j, "const")) ++j;
  if (!is_name(j) || is(j, "return") || is(j, "case") || is(j, "else")) return i;
  for (++j; j < end; ++j) {
    if (is(j, "::") && is_name(j + 1)) {
      ++j;
    } else if (is(j, "<")) {
      return i;  // perhaps a comparison; template types are rare here
    } else {
      return j;
    }
  }
  return i;
}

/// Static variables, and pointers and references without an address space where a statement starts.
void Checker::check_body(Range body) const {
  for (std::size_t i = body.begin; i < body.end; ++i) {
    if (is(i, "static")) {
      std::size_t j = i;
      bool constant = false;
      for (; is(j, "static") || is(j, "const") || is(j, "constexpr") || is(j, "constant"); ++j)
        constant |= is(j, "constant");
      if (!constant) refuse(i, "a static variable must be in the constant address space");
    }
    const bool starts = i == body.begin || before(i, ";") || before(i, "{") || before(i, "}") ||
                        (before(i, "(") && i > 1 && is(i - 2, "for")) ||
                        tokens_[i - 1].kind == Kind::Directive;
    if (!starts) continue;
    const std::size_t past = past_plain_type(i, body.end);
    if (past == i || !(is(past, "*") || is(past, "&") || is(past, "&&"))) continue;
    std::size_t name = past;
    while (is(name, "*") || is(name, "&") || is(name, "&&") || is(name, "const")) ++name;
    if (is_name(name) && (is(name + 1, "=") || is(name + 1, ";") || is(name + 1, ":")))
      refuse(past, "a pointer or reference must name its address space");
  }
}

/// Functions that come back to themselves. By name, of those that have but one body.
void Checker::check_calls() const {
  enum class State { New, Open, Done };
  std::map<std::string, State, std::less<>> states;
  const std::function<void(const std::string&)> visit = [&](const std::string& name) {
    states[name] = State::Open;
    const Range body = bodies_.at(name).front();
    for (std::size_t i = body.begin; i + 1 < body.end; ++i) {
      if (!is_name(i) || !is(i + 1, "(") || before(i, ".") || before(i, "->")) continue;
      const auto called = bodies_.find(tokens_[i].text);
      if (called == bodies_.end() || called->second.size() != 1) continue;
      const State state = states[called->first];
      if (state == State::Open)
        refuse(i, std::string(called->first) +
                      " calls itself: recursion is refused here, for a GPU has no stack to speak of");
      if (state == State::New) visit(called->first);
    }
    states[name] = State::Done;
  };
  for (const auto& [name, bodies] : bodies_) {
    if (bodies.size() == 1 && states[name] == State::New) visit(name);
  }
}

}  // namespace

void check_dialect(const Tokens& tokens) {
  Checker(tokens).run();
}

}  // namespace translate
