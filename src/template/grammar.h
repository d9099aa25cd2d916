#pragma once

#include <algorithm>
#include <fmt/format.h>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "template/ast.h"
#include "template/lexer.h"

namespace candela::jinja {

/// Deepest nesting of tags and brackets.
inline constexpr int kMaxParseDepth = 256;
/// Highest tree of one expression.
inline constexpr int kMaxHeight = 400;

using Words = std::initializer_list<std::string_view>;

/// A recursive descent over the tokens of one template, a function for each rule of Jinja's grammar:
/// statements in parser.cpp, expressions in expression_parser.cpp.
class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Body parse() {
    Body body = statements({});
    return body;
  }

 private:
  struct Deeper {
    explicit Deeper(Parser& owner) : parser(owner) {
      if (++parser.depth_ > kMaxParseDepth)
        parser.fail(fmt::format("tags and expressions must nest at most {} deep", kMaxParseDepth));
    }
    ~Deeper() { --parser.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Parser& parser;
  };

  // Tokens.
  const Token& current() const { return tokens_[position_]; }
  const Token& ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  Token next() {
    Token token = current();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  static bool is_name(const Token& token, std::string_view name) {
    return token.kind == TokenKind::Name && token.text == name;
  }
  bool at_name(std::string_view name) const { return is_name(current(), name); }
  bool at_operator(std::string_view op) const {
    return current().kind == TokenKind::Operator && current().text == op;
  }
  bool skip_name(std::string_view name) {
    if (!at_name(name)) return false;
    next();
    return true;
  }
  bool skip_operator(std::string_view op) {
    if (!at_operator(op)) return false;
    next();
    return true;
  }
  void expect_operator(std::string_view op) {
    if (!skip_operator(op)) fail(fmt::format("expected token '{}', got {}", op, shown(current())));
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail(fmt::format("expected token '{}', got {}", name, shown(current())));
  }
  std::string any_name() {
    if (current().kind != TokenKind::Name) fail(fmt::format("expected a name, got {}", shown(current())));
    return next().text;
  }
  void expect(TokenKind kind, std::string_view what) {
    if (current().kind != kind) fail(fmt::format("expected {}, got {}", what, shown(current())));
    next();
  }
  static std::string shown(const Token& token) {
    switch (token.kind) {
      case TokenKind::End:
        return "end of template";
      case TokenKind::BlockEnd:
        return "'end of statement block'";
      case TokenKind::VariableEnd:
        return "'end of print statement'";
      default:
        return fmt::format("'{}'", token.text.substr(0, 40));
    }
  }
  [[noreturn]] void fail(std::string message) const {
    throw SyntaxFailure{std::move(message), current().line};
  }
  [[noreturn]] static void fail(std::string message, int line) {
    throw SyntaxFailure{std::move(message), line};
  }

  // Statements.
  Body statements(Words ends);
  Body block(Words ends);
  std::unique_ptr<Statement> statement();
  std::unique_ptr<Statement> make(StatementKind kind) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = current().line;
    return node;
  }
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_macro();
  std::unique_ptr<Statement> parse_call();
  std::unique_ptr<Statement> parse_filter_block();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_block();
  std::unique_ptr<Statement> parse_loader();
  std::unique_ptr<Statement> wrapped(StatementKind kind, std::string_view end);
  std::unique_ptr<Statement> loop_control(StatementKind kind);
  void signature(Statement& node);
  void body_of(Statement& node, std::string_view end);

  // Expressions.
  ExpressionPtr make(ExpressionKind kind, std::string text = "") const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = current().line;
    node->text = std::move(text);
    return node;
  }
  ExpressionPtr constant(Value value) const {
    ExpressionPtr node = make(ExpressionKind::Constant);
    node->constant = std::move(value);
    return node;
  }
  ExpressionPtr binary(ExpressionKind kind, std::string op, ExpressionPtr left, ExpressionPtr right) const {
    ExpressionPtr node = make(kind, std::move(op));
    node->children.push_back(std::move(left));
    node->children.push_back(std::move(right));
    return measured(std::move(node));
  }
  ExpressionPtr measured(ExpressionPtr node) const;
  ExpressionPtr target(bool with_namespace, std::string_view end = "");
  void check_target(const Expression& node) const;
  ExpressionPtr name_target();
  ExpressionPtr expression(bool conditional = true) { return conditional ? parse_conditional() : parse_or(); }
  ExpressionPtr tuple(bool simplified, bool conditional, std::string_view end, bool parentheses,
                      bool with_namespace);
  bool tuple_ends(std::string_view end) const;
  ExpressionPtr parse_conditional();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool filters = true);
  ExpressionPtr parse_primary(bool with_namespace = false);
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_filters(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_subscribed();
  ExpressionPtr parse_call_of(ExpressionPtr node);
  ExpressionPtr parse_filter(ExpressionPtr node, bool start_inline = false);
  ExpressionPtr parse_test(ExpressionPtr node);
  std::unique_ptr<CallArguments> call_arguments();
  std::string dotted_name();

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int depth_ = 0;
  int loops_ = 0;
  int soft_ = 0;  // inside an if: an unknown filter is an error only where it is run
  std::vector<Statement*> macros_;
};

}  // namespace candela::jinja
