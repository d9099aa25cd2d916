#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <limits>
#include <locale>
#include <sstream>

#include "template/grammar.h"
#include "template/library.h"

namespace candela::jinja {
namespace {

/// Of what the lexer takes for a floating-point number, in any locale; beyond f64 it is infinite, as in
/// Python. (Apple's library has no from_chars for it.)
double real_of(const std::string& text) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double value = 0;
  stream >> value;
  return value == std::numeric_limits<double>::max() && stream.fail()
             ? std::numeric_limits<double>::infinity()
             : value;
}

}  // namespace

/// `node` with its height set, which is bounded: a tree is evaluated and freed by recursion.
ExpressionPtr Parser::measured(ExpressionPtr node) const {
  const auto grow = [&](const ExpressionPtr& child) {
    if (child) node->height = std::max(node->height, child->height + 1);
  };
  for (const ExpressionPtr& child : node->children) grow(child);
  if (node->arguments) {
    for (const ExpressionPtr& value : node->arguments->values) grow(value);
    for (const auto& [name, value] : node->arguments->named) grow(value);
    grow(node->arguments->rest);
    grow(node->arguments->named_rest);
  }
  if (node->height > kMaxHeight) fail("the expression must be shorter: it nests too deep");
  return node;
}

ExpressionPtr Parser::name_target() {
  ExpressionPtr node = make(ExpressionKind::Name);
  node->text = any_name();
  check_target(*node);
  return node;
}

void Parser::check_target(const Expression& node) const {
  switch (node.kind) {
    case ExpressionKind::Name:
      return;
    case ExpressionKind::NamespaceTarget:
      return;
    case ExpressionKind::Tuple:
    case ExpressionKind::List:
      for (const ExpressionPtr& child : node.children) check_target(*child);
      return;
    case ExpressionKind::Constant:
      fail("can't assign to 'const'", node.line);
    default:
      fail("can't assign to this expression", node.line);
  }
}

ExpressionPtr Parser::target(bool with_namespace, std::string_view end) {
  ExpressionPtr node = tuple(true, true, end, false, with_namespace);
  check_target(*node);
  return node;
}

bool Parser::tuple_ends(std::string_view end) const {
  if (current().kind == TokenKind::VariableEnd || current().kind == TokenKind::BlockEnd || at_operator(")"))
    return true;
  return !end.empty() && at_name(end);
}

ExpressionPtr Parser::tuple(bool simplified, bool conditional, std::string_view end, bool parentheses,
                            bool with_namespace) {
  ExpressionPtr node = make(ExpressionKind::Tuple);
  bool is_tuple = false;
  while (true) {
    if (!node->children.empty()) expect_operator(",");
    if (tuple_ends(end)) break;
    node->children.push_back(simplified ? parse_primary(with_namespace) : expression(conditional));
    if (!at_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return measured(std::move(node));
  if (!node->children.empty()) return std::move(node->children[0]);
  if (!parentheses) fail(fmt::format("Expected an expression, got {}", shown(current())));
  return node;
}

ExpressionPtr Parser::parse_conditional() {
  const Deeper deeper(*this);
  ExpressionPtr node = parse_or();
  while (at_name("if")) {
    ExpressionPtr choice = make(ExpressionKind::Conditional);
    next();
    ++soft_;
    choice->children.push_back(parse_or());
    choice->children.push_back(std::move(node));
    choice->children.push_back(skip_name("else") ? parse_conditional() : nullptr);
    --soft_;
    node = measured(std::move(choice));
  }
  return node;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr node = parse_and();
  if (!at_name("or")) return node;
  ExpressionPtr any = make(ExpressionKind::Or);
  any->children.push_back(std::move(node));
  while (skip_name("or")) any->children.push_back(parse_and());
  return measured(std::move(any));
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr node = parse_not();
  if (!at_name("and")) return node;
  ExpressionPtr all = make(ExpressionKind::And);
  all->children.push_back(std::move(node));
  while (skip_name("and")) all->children.push_back(parse_not());
  return measured(std::move(all));
}

ExpressionPtr Parser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Deeper deeper(*this);
  ExpressionPtr node = make(ExpressionKind::Not);
  next();
  node->children.push_back(parse_not());
  return measured(std::move(node));
}

ExpressionPtr Parser::parse_compare() {
  ExpressionPtr node = parse_sum();
  ExpressionPtr chain;
  while (true) {
    std::string op;
    if (current().kind == TokenKind::Operator) {
      for (const std::string_view symbol : {"==", "!=", "<", "<=", ">", ">="})
        if (current().text == symbol) op = symbol;
    } else if (at_name("in")) {
      op = "in";
    } else if (at_name("not") && is_name(ahead(), "in")) {
      next();
      op = "not in";
    }
    if (op.empty()) return chain ? measured(std::move(chain)) : std::move(node);
    next();
    if (!chain) {
      chain = make(ExpressionKind::Compare);
      chain->children.push_back(std::move(node));
    }
    chain->operators.push_back(op);
    chain->children.push_back(parse_sum());
  }
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr node = parse_concat();
  while (at_operator("+") || at_operator("-")) {
    std::string op = next().text;
    node = binary(ExpressionKind::Binary, std::move(op), std::move(node), parse_concat());
  }
  return node;
}

ExpressionPtr Parser::parse_concat() {
  ExpressionPtr node = parse_product();
  if (!at_operator("~")) return node;
  ExpressionPtr joined = make(ExpressionKind::Concat);
  joined->children.push_back(std::move(node));
  while (skip_operator("~")) joined->children.push_back(parse_product());
  return measured(std::move(joined));
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr node = parse_power();
  while (at_operator("*") || at_operator("/") || at_operator("//") || at_operator("%")) {
    std::string op = next().text;
    node = binary(ExpressionKind::Binary, std::move(op), std::move(node), parse_power());
  }
  return node;
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr node = parse_unary();
  while (at_operator("**")) {
    next();
    node = binary(ExpressionKind::Binary, "**", std::move(node), parse_unary());
  }
  return node;
}

ExpressionPtr Parser::parse_unary(bool filters) {
  const Deeper deeper(*this);
  ExpressionPtr node;
  if (at_operator("-") || at_operator("+")) {
    node = make(at_operator("-") ? ExpressionKind::Negative : ExpressionKind::Positive);
    next();
    node->children.push_back(parse_unary(false));
    node = measured(std::move(node));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return filters ? parse_filters(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_primary(bool with_namespace) {
  const Deeper deeper(*this);
  const Token token = current();
  switch (token.kind) {
    case TokenKind::Name: {
      next();
      if (token.text == "true" || token.text == "True") return constant(Value::boolean(true));
      if (token.text == "false" || token.text == "False") return constant(Value::boolean(false));
      if (token.text == "none" || token.text == "None") return constant(Value());
      if (with_namespace && skip_operator(".")) {
        ExpressionPtr node = make(ExpressionKind::NamespaceTarget, token.text);
        node->operators.push_back(any_name());
        return node;
      }
      for (Statement* macro : macros_) {
        if (token.text == "varargs") macro->takes_rest = true;
        if (token.text == "kwargs") macro->takes_named_rest = true;
        if (token.text == "caller") macro->takes_caller = true;
      }
      return make(ExpressionKind::Name, token.text);
    }
    case TokenKind::String: {
      std::string text;
      while (current().kind == TokenKind::String) text += next().text;
      return constant(Value::string(std::move(text)));
    }
    case TokenKind::Integer:
    case TokenKind::Float:
      return parse_number();
    default:
      break;
  }
  if (skip_operator("(")) {
    ExpressionPtr node = tuple(false, true, "", true, false);
    expect_operator(")");
    return node;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_dict();
  fail(fmt::format("unexpected {}", shown(token)));
}

ExpressionPtr Parser::parse_number() {
  const Token token = next();
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  if (token.kind == TokenKind::Float) return constant(Value::real(real_of(token.text)));
  int base = 10;
  if (token.text.size() > 2 && token.text[0] == '0') {
    const char kind = static_cast<char>(token.text[1] | 0x20);
    if (kind == 'x') base = 16;
    if (kind == 'o') base = 8;
    if (kind == 'b') base = 2;
    if (base != 10) begin += 2;
  }
  std::int64_t value = 0;
  const auto result = std::from_chars(begin, end, value, base);
  if (result.ec == std::errc::result_out_of_range)
    fail(fmt::format("'{}' is beyond 64 bits", token.text.substr(0, 40)), token.line);
  if (result.ptr != end) fail(fmt::format("'{}' is not an integer", token.text.substr(0, 40)), token.line);
  return constant(Value::integer(value));
}

ExpressionPtr Parser::parse_list() {
  ExpressionPtr node = make(ExpressionKind::List);
  next();
  while (!at_operator("]")) {
    if (!node->children.empty()) expect_operator(",");
    if (at_operator("]")) break;
    node->children.push_back(expression());
  }
  next();
  return measured(std::move(node));
}

ExpressionPtr Parser::parse_dict() {
  ExpressionPtr node = make(ExpressionKind::Dict);
  next();
  while (!at_operator("}")) {
    if (!node->children.empty()) expect_operator(",");
    if (at_operator("}")) break;
    node->children.push_back(expression());
    expect_operator(":");
    node->children.push_back(expression());
  }
  next();
  return measured(std::move(node));
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (at_operator(".") || at_operator("["))
      node = parse_subscript(std::move(node));
    else if (at_operator("("))
      node = parse_call_of(std::move(node));
    else
      return node;
  }
}

ExpressionPtr Parser::parse_filters(ExpressionPtr node) {
  while (true) {
    if (at_operator("|"))
      node = parse_filter(std::move(node));
    else if (at_name("is"))
      node = parse_test(std::move(node));
    else if (at_operator("("))
      node = parse_call_of(std::move(node));
    else
      return node;
  }
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr node) {
  if (skip_operator(".")) {
    if (current().kind == TokenKind::Name) {
      ExpressionPtr access = make(ExpressionKind::Attribute);
      access->text = next().text;
      access->children.push_back(std::move(node));
      return measured(std::move(access));
    }
    if (current().kind != TokenKind::Integer) fail("expected name or number");
    return binary(ExpressionKind::Item, "", std::move(node), parse_number());
  }
  next();
  ExpressionPtr index = make(ExpressionKind::Tuple);
  while (!at_operator("]")) {
    if (!index->children.empty()) expect_operator(",");
    index->children.push_back(parse_subscribed());
  }
  next();
  index = index->children.size() == 1 ? std::move(index->children[0]) : measured(std::move(index));
  return binary(ExpressionKind::Item, "", std::move(node), std::move(index));
}

ExpressionPtr Parser::parse_subscribed() {
  ExpressionPtr slice = make(ExpressionKind::Slice);
  if (!at_operator(":")) {
    ExpressionPtr node = expression();
    if (!at_operator(":")) return node;
    slice->children.push_back(std::move(node));
  } else {
    slice->children.push_back(nullptr);
  }
  next();
  const auto ends = [&] { return at_operator("]") || at_operator(","); };
  slice->children.push_back(ends() || at_operator(":") ? nullptr : expression());
  slice->children.push_back(skip_operator(":") && !ends() ? expression() : nullptr);
  return measured(std::move(slice));
}

std::unique_ptr<CallArguments> Parser::call_arguments() {
  const Deeper deeper(*this);
  auto result = std::make_unique<CallArguments>();
  const int line = current().line;
  const auto ensure = [&](bool holds) {
    if (!holds) fail("invalid syntax for function call expression", line);
  };
  expect_operator("(");
  for (bool first = true; !at_operator(")"); first = false) {
    if (!first) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    if (skip_operator("*")) {
      ensure(!result->rest && !result->named_rest);
      result->rest = expression();
    } else if (skip_operator("**")) {
      ensure(!result->named_rest);
      result->named_rest = expression();
    } else if (current().kind == TokenKind::Name && ahead().kind == TokenKind::Operator &&
               ahead().text == "=") {
      ensure(!result->named_rest);
      std::string name = next().text;
      next();
      result->named.emplace_back(std::move(name), expression());
    } else {
      ensure(!result->rest && !result->named_rest && result->named.empty());
      result->values.push_back(expression());
    }
  }
  expect_operator(")");
  return result;
}

ExpressionPtr Parser::parse_call_of(ExpressionPtr node) {
  ExpressionPtr call = make(ExpressionKind::Call);
  call->children.push_back(std::move(node));
  call->arguments = call_arguments();
  return measured(std::move(call));
}

std::string Parser::dotted_name() {
  std::string name = any_name();
  while (skip_operator(".")) name += "." + any_name();
  return name;
}

ExpressionPtr Parser::parse_filter(ExpressionPtr node, bool start_inline) {
  while (start_inline || at_operator("|")) {
    if (!start_inline) next();
    start_inline = false;
    ExpressionPtr filter = make(ExpressionKind::Filter);
    filter->text = dotted_name();
    if (soft_ == 0 && !find_filter(filter->text)) fail(fmt::format("No filter named '{}'.", filter->text));
    filter->children.push_back(std::move(node));
    if (at_operator("(")) filter->arguments = call_arguments();
    node = measured(std::move(filter));
  }
  return node;
}

ExpressionPtr Parser::parse_test(ExpressionPtr node) {
  next();
  const bool negated = skip_name("not");
  ExpressionPtr test = make(ExpressionKind::Test);
  test->text = dotted_name();
  if (soft_ == 0 && !find_test(test->text)) fail(fmt::format("No test named '{}'.", test->text));
  test->children.push_back(std::move(node));
  const TokenKind kind = current().kind;
  const bool argument = kind == TokenKind::Name || kind == TokenKind::String || kind == TokenKind::Integer ||
                        kind == TokenKind::Float || at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    test->arguments = call_arguments();
  } else if (argument && !at_name("else") && !at_name("or") && !at_name("and")) {
    if (at_name("is")) fail("You cannot chain multiple tests with is");
    test->arguments = std::make_unique<CallArguments>();
    test->arguments->values.push_back(parse_postfix(parse_primary()));
  }
  if (!negated) return measured(std::move(test));
  ExpressionPtr opposite = make(ExpressionKind::Not);
  opposite->children.push_back(measured(std::move(test)));
  return measured(std::move(opposite));
}

}  // namespace candela::jinja
