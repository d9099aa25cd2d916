#include "template/parser.h"

#include <algorithm>
#include <fmt/format.h>

#include "template/grammar.h"
#include "template/library.h"

namespace candela::jinja {

Body Parser::statements(Words ends) {
  const Deeper deeper(*this);
  Body body;
  std::unique_ptr<Statement> output;
  while (current().kind != TokenKind::End) {
    if (current().kind == TokenKind::Data) {
      auto data = make(StatementKind::Data);
      data->text = next().text;
      body.push_back(std::move(data));
    } else if (current().kind == TokenKind::VariableBegin) {
      auto node = make(StatementKind::Output);
      next();
      node->expressions.push_back(tuple(false, true, "", false, false));
      expect(TokenKind::VariableEnd, "'end of print statement'");
      body.push_back(std::move(node));
    } else {
      expect(TokenKind::BlockBegin, "a tag");
      if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return at_name(end); }))
        return body;
      body.push_back(statement());
      expect(TokenKind::BlockEnd, "'end of statement block'");
    }
  }
  if (ends.size() > 0) {
    std::string wanted;
    for (const std::string_view end : ends)
      wanted += fmt::format("{}'{}'", wanted.empty() ? "" : " or ", end);
    fail(fmt::format("unexpected end of template; looking for {}", wanted));
  }
  return body;
}

/// The rest of a tag's opening, and the body to one of `ends`, which is the current token then.
Body Parser::block(Words ends) {
  skip_operator(":");
  expect(TokenKind::BlockEnd, "'end of statement block'");
  return statements(ends);
}

std::unique_ptr<Statement> Parser::statement() {
  if (current().kind != TokenKind::Name) fail("tag name expected");
  const std::string& tag = current().text;
  if (tag == "if") return parse_if();
  if (tag == "for") return parse_for();
  if (tag == "set") return parse_set();
  if (tag == "macro") return parse_macro();
  if (tag == "call") return parse_call();
  if (tag == "filter") return parse_filter_block();
  if (tag == "with") return parse_with();
  if (tag == "block") return parse_block();
  if (tag == "generation") return wrapped(StatementKind::Generation, "endgeneration");
  if (tag == "break") return loop_control(StatementKind::Break);
  if (tag == "continue") return loop_control(StatementKind::Continue);
  if (tag == "autoescape") {
    auto node = make(StatementKind::Scope);
    next();
    node->expressions.push_back(expression());
    node->bodies.push_back(block({"endautoescape"}));
    next();
    return node;
  }
  if (tag == "print") {
    auto node = make(StatementKind::Output);
    next();
    while (current().kind != TokenKind::BlockEnd) {
      if (!node->expressions.empty()) expect_operator(",");
      node->expressions.push_back(expression());
    }
    return node;
  }
  if (tag == "extends" || tag == "include" || tag == "import" || tag == "from") return parse_loader();
  fail(fmt::format("Encountered unknown tag '{}'.", tag));
}

std::unique_ptr<Statement> Parser::loop_control(StatementKind kind) {
  if (loops_ == 0) fail(fmt::format("'{}' outside loop", current().text));
  auto node = make(kind);
  next();
  return node;
}

std::unique_ptr<Statement> Parser::wrapped(StatementKind kind, std::string_view end) {
  auto node = make(kind);
  next();
  const int loops = std::exchange(loops_, 0);
  node->bodies.push_back(block({end}));
  loops_ = loops;
  next();
  return node;
}

/// Other templates cannot be loaded; it is an error only where the tag is reached.
std::unique_ptr<Statement> Parser::parse_loader() {
  auto node = make(StatementKind::Unavailable);
  node->text = current().text;
  while (current().kind != TokenKind::BlockEnd && current().kind != TokenKind::End) next();
  return node;
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto node = make(StatementKind::If);
  next();
  ++soft_;
  std::string end;
  do {
    node->expressions.push_back(tuple(false, false, "", false, false));
    node->bodies.push_back(block({"elif", "else", "endif"}));
    end = next().text;
  } while (end == "elif");
  if (end == "else") {
    node->bodies.push_back(block({"endif"}));
    next();
  }
  --soft_;
  return node;
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto node = make(StatementKind::For);
  next();
  node->target = target(false, "in");
  expect_name("in");
  node->expressions.push_back(tuple(false, false, "recursive", false, false));
  node->expressions.push_back(skip_name("if") ? expression() : nullptr);
  node->recursive = skip_name("recursive");
  const int soft = std::exchange(soft_, 0);
  ++loops_;
  node->bodies.push_back(block({"endfor", "else"}));
  --loops_;
  if (next().text == "else") {
    node->bodies.push_back(block({"endfor"}));
    next();
  }
  soft_ = soft;
  return node;
}

std::unique_ptr<Statement> Parser::parse_set() {
  auto node = make(StatementKind::Set);
  next();
  node->target = target(true);
  if (skip_operator("=")) {
    node->expressions.push_back(tuple(false, true, "", false, false));
    return node;
  }
  node->kind = StatementKind::SetBlock;
  node->expressions.push_back(at_operator("|") ? parse_filter(nullptr) : nullptr);
  node->bodies.push_back(block({"endset"}));
  next();
  return node;
}

void Parser::signature(Statement& node) {
  expect_operator("(");
  while (!at_operator(")")) {
    if (!node.parameters.empty()) expect_operator(",");
    Parameter parameter{name_target()->text, nullptr};
    if (skip_operator("="))
      parameter.otherwise = expression();
    else if (!node.parameters.empty() && node.parameters.back().otherwise)
      fail("non-default argument follows default argument");
    node.parameters.push_back(std::move(parameter));
  }
  expect_operator(")");
}

void Parser::body_of(Statement& node, std::string_view end) {
  const int loops = std::exchange(loops_, 0), soft = std::exchange(soft_, 0);
  macros_.push_back(&node);
  node.bodies.push_back(block({end}));
  macros_.pop_back();
  loops_ = loops;
  soft_ = soft;
  next();
  for (const Parameter& parameter : node.parameters) {
    if (parameter.name == "varargs") node.takes_rest = false;
    if (parameter.name == "kwargs") node.takes_named_rest = false;
    if (parameter.name == "caller") {
      if (node.takes_caller && !parameter.otherwise)
        fail(
            "When defining macros or call blocks the special \"caller\" argument must be omitted or be given "
            "a default.",
            node.line);
      node.takes_caller = false;
    }
  }
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto node = make(StatementKind::Macro);
  next();
  node->text = name_target()->text;
  signature(*node);
  body_of(*node, "endmacro");
  return node;
}

std::unique_ptr<Statement> Parser::parse_call() {
  auto node = make(StatementKind::CallBlock);
  next();
  if (at_operator("(")) signature(*node);
  node->expressions.push_back(expression());
  if (node->expressions[0]->kind != ExpressionKind::Call) fail("expected call", node->line);
  body_of(*node, "endcall");
  return node;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto node = make(StatementKind::FilterBlock);
  next();
  node->expressions.push_back(parse_filter(nullptr, true));
  node->bodies.push_back(block({"endfilter"}));
  next();
  return node;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto node = make(StatementKind::With);
  next();
  while (current().kind != TokenKind::BlockEnd) {
    if (!node->targets.empty()) expect_operator(",");
    node->targets.push_back(target(false));
    expect_operator("=");
    node->expressions.push_back(expression());
  }
  node->bodies.push_back(block({"endwith"}));
  next();
  return node;
}

std::unique_ptr<Statement> Parser::parse_block() {
  auto node = make(StatementKind::Scope);
  next();
  node->text = any_name();
  node->from_context = !skip_name("scoped");
  skip_name("required");
  const int loops = std::exchange(loops_, 0);
  node->bodies.push_back(block({"endblock"}));
  loops_ = loops;
  next();
  if (current().kind == TokenKind::Name && current().text == node->text) next();
  return node;
}

Body parse(std::string_view source) {
  return Parser(source).parse();
}

}  // namespace candela::jinja
