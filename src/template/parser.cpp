#include "template/parser.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <initializer_list>

#include "template/lexer.h"
#include "template/library.h"

namespace candela::jinja {
namespace {

/// Deepest nesting of tags and brackets.
constexpr int kMaxParseDepth = 256;
/// Highest tree of one expression.
constexpr int kMaxHeight = 400;

using Words = std::initializer_list<std::string_view>;

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
  while (true) {
    node->expressions.push_back(tuple(false, false, "", false, false));
    node->bodies.push_back(block({"elif", "else", "endif"}));
    const std::string end = next().text;
    if (end == "elif") continue;
    if (end == "else") {
      node->bodies.push_back(block({"endif"}));
      next();
    }
    break;
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
  if (token.kind == TokenKind::Float) {
    double value = 0;
    const auto result = std::from_chars(begin, end, value);
    if (result.ptr != end) fail(fmt::format("'{}' is not a number", token.text), token.line);
    return constant(Value::real(value));
  }
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

}  // namespace

Body parse(std::string_view source) {
  return Parser(source).parse();
}

}  // namespace candela::jinja
