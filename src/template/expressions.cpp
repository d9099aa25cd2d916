#include <algorithm>
#include <fmt/format.h>

#include "template/evaluator.h"
#include "template/text.h"

namespace candela::jinja {

const Value* Frame::find(std::string_view name) const {
  for (const auto& [own, value] : variables)
    if (own == name) return &value;
  return nullptr;
}

void Frame::set(std::string_view name, Value value) {
  for (auto& [own, old] : variables) {
    if (own != name) continue;
    old = std::move(value);
    return;
  }
  variables.emplace_back(name, std::move(value));
}

Value Evaluator::lookup(const std::string& name, const Frame& frame) const {
  for (const Frame* scope = &frame; scope; scope = scope->parent)
    if (const Value* found = scope->find(name)) return *found;
  return Value::undefined(fmt::format("{} is undefined", repr(name)));
}

Value Evaluator::evaluate(const Expression& node, Frame& frame) {
  runtime_.charge(1);
  switch (node.kind) {
    case ExpressionKind::Constant:
      return node.constant;
    case ExpressionKind::Name:
      return lookup(node.text, frame);
    default:
      break;
  }
  const Runtime::Deeper deeper(runtime_);
  switch (node.kind) {
    case ExpressionKind::Attribute:
      return get_attribute(runtime_, evaluate(*node.children[0], frame), node.text);
    case ExpressionKind::Item:
      return evaluate_item(node, frame);
    case ExpressionKind::Call:
      return evaluate_call(node, frame);
    case ExpressionKind::Filter: {
      const Value input = node.children[0] ? evaluate(*node.children[0], frame) : *filter_input_;
      return runtime_.filter(node.text, input, arguments_of(node.arguments.get(), frame));
    }
    case ExpressionKind::Test: {
      const Value input = evaluate(*node.children[0], frame);
      return Value::boolean(runtime_.test(node.text, input, arguments_of(node.arguments.get(), frame)));
    }
    case ExpressionKind::Not:
      return Value::boolean(!truth(evaluate(*node.children[0], frame)));
    case ExpressionKind::Negative:
      return negative(evaluate(*node.children[0], frame));
    case ExpressionKind::Positive:
      return positive(evaluate(*node.children[0], frame));
    case ExpressionKind::Binary: {
      const Value left = evaluate(*node.children[0], frame);
      return arithmetic(runtime_, node.text, left, evaluate(*node.children[1], frame));
    }
    case ExpressionKind::And:
    case ExpressionKind::Or: {
      Value value;
      for (const ExpressionPtr& child : node.children) {
        value = evaluate(*child, frame);
        if (truth(value) == (node.kind == ExpressionKind::Or)) break;
      }
      return value;
    }
    case ExpressionKind::Compare:
      return evaluate_compare(node, frame);
    case ExpressionKind::Conditional: {
      if (truth(evaluate(*node.children[0], frame))) return evaluate(*node.children[1], frame);
      if (node.children[2]) return evaluate(*node.children[2], frame);
      return Value::undefined(fmt::format(
          "the inline if-expression on line {} evaluated to false and no else section was defined.",
          node.line));
    }
    default:
      return evaluate_children(node, frame);
  }
}

/// Lists, tuples, dicts and texts joined by ~.
Value Evaluator::evaluate_children(const Expression& node, Frame& frame) {
  if (node.kind == ExpressionKind::Concat) {
    std::string text;
    for (const ExpressionPtr& child : node.children) {
      const Value part = evaluate(*child, frame);
      text += runtime_.str(part);
    }
    return runtime_.string(std::move(text));
  }
  if (node.kind == ExpressionKind::Dict) {
    auto dict = std::make_shared<Dict>();
    runtime_.allocate(node.children.size() * 2 * sizeof(Value));
    for (std::size_t i = 0; i < node.children.size(); i += 2) {
      Value key = evaluate(*node.children[i], frame);
      dict->set(std::move(key), evaluate(*node.children[i + 1], frame));
    }
    return Value::dict(std::move(dict));
  }
  std::vector<Value> items;
  items.reserve(node.children.size());
  for (const ExpressionPtr& child : node.children) items.push_back(child ? evaluate(*child, frame) : Value());
  return node.kind == ExpressionKind::List ? runtime_.list(std::move(items))
                                           : runtime_.tuple(std::move(items));
}

Value Evaluator::evaluate_compare(const Expression& node, Frame& frame) {
  Value left = evaluate(*node.children[0], frame);
  for (std::size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate(*node.children[i + 1], frame);
    if (!compare(runtime_, node.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Evaluator::evaluate_item(const Expression& node, Frame& frame) {
  const Value object = evaluate(*node.children[0], frame);
  const Expression& index = *node.children[1];
  if (index.kind != ExpressionKind::Slice) return get_item(runtime_, object, evaluate(index, frame));
  Value parts[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (index.children[i]) parts[i] = evaluate(*index.children[i], frame);
  return get_slice(runtime_, object, parts[0], parts[1], parts[2]);
}

Value Evaluator::evaluate_call(const Expression& node, Frame& frame) {
  const Value function = evaluate(*node.children[0], frame);
  return runtime_.call(function, arguments_of(node.arguments.get(), frame));
}

Arguments Evaluator::arguments_of(const CallArguments* arguments, Frame& frame) {
  Arguments result;
  if (!arguments) return result;
  for (const ExpressionPtr& value : arguments->values) result.values.push_back(evaluate(*value, frame));
  for (const auto& [name, value] : arguments->named) result.named.emplace_back(name, evaluate(*value, frame));
  if (arguments->rest) {
    const Value rest = evaluate(*arguments->rest, frame);
    for (Value& value : runtime_.elements(rest)) result.values.push_back(std::move(value));
  }
  if (arguments->named_rest) {
    const Value rest = evaluate(*arguments->named_rest, frame);
    require_defined(rest);
    if (!rest.is(Kind::Dict))
      fail("TypeError", fmt::format("argument after ** must be a mapping, not {}", type_name(rest)));
    for (const auto& [key, value] : rest.as_dict().entries) {
      if (!key.is_string()) fail("TypeError", "keywords must be strings");
      result.named.emplace_back(key.bytes(), value);
    }
  }
  for (std::size_t i = 0; i < result.named.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      runtime_.charge(1);
      if (result.named[k].first == result.named[i].first)
        fail("TypeError",
             fmt::format("got multiple values for keyword argument '{}'", result.named[i].first));
    }
  }
  return result;
}

Value Evaluator::filtered(const Expression& filters, const Value& input, Frame& frame) {
  const Value* outer = std::exchange(filter_input_, &input);
  try {
    Value result = evaluate(filters, frame);
    filter_input_ = outer;
    return result;
  } catch (...) {
    filter_input_ = outer;
    throw;
  }
}

}  // namespace candela::jinja
