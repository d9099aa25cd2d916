#pragma once

#include <memory>
#include <string>
#include <vector>

#include "template/value.h"

namespace candela::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  Constant,
  Name,
  NamespaceTarget,  // ns.attribute, assigned to
  List,
  Tuple,
  Dict,       // children: key, value, key, value
  Attribute,  // a.text
  Item,       // a[b]
  Slice,      // start, stop, step, any of them null
  Call,
  Filter,  // operand null inside a filter block
  Test,
  Not,
  Negative,
  Positive,
  Binary,  // text: the operator
  And,
  Or,
  Concat,
  Compare,      // operand, then one child per entry of `operators`
  Conditional,  // condition, then, otherwise (null: undefined)
};

/// Arguments of a call: `named` have names, `rest` and `named_rest` are *args and **kwargs.
struct CallArguments {
  std::vector<ExpressionPtr> values;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr rest, named_rest;
};

struct Expression {
  ExpressionKind kind;
  int line;
  std::string text{};  // name, attribute, operator, filter or test
  Value constant{};
  std::vector<ExpressionPtr> children{};
  std::vector<std::string> operators{};
  std::unique_ptr<CallArguments> arguments{};
  int height = 1;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

enum class StatementKind : std::uint8_t {
  Data,         // text
  Output,       // {{ }}: expressions
  If,           // expressions: one per branch of `bodies`; a further body is the else
  For,          // target, expressions[0] iterated, [1] condition or null; bodies: loop, else
  Set,          // target = expressions[0]
  SetBlock,     // target, expressions[0]: filters or null; bodies[0]
  Macro,        // text: name
  CallBlock,    // expressions[0]: the call; bodies[0]
  FilterBlock,  // expressions[0]: the filters
  With,         // targets, expressions
  Scope,        // {% block %} and {% autoescape %}: bodies[0]
  Generation,   // {% generation %}: bodies[0]
  Break,
  Continue,
  Unavailable,  // text: a tag that loads other templates
};

struct Parameter {
  std::string name;
  ExpressionPtr otherwise;
};

struct Statement {
  StatementKind kind;
  int line;
  std::string text{};
  ExpressionPtr target{};
  std::vector<ExpressionPtr> targets{};
  std::vector<ExpressionPtr> expressions{};
  std::vector<Body> bodies{};
  std::vector<Parameter> parameters{};
  bool recursive = false;
  bool from_context = false;  // Scope: sees the template's own variables only
  bool takes_rest = false, takes_named_rest = false, takes_caller = false;  // Macro, CallBlock
};

}  // namespace candela::jinja
