#include <algorithm>
#include <fmt/format.h>

#include "template/evaluator.h"
#include "template/library.h"
#include "template/loop.h"
#include "template/text.h"

namespace candela::jinja {

Evaluator::~Evaluator() {
  // Macros refer to frames, and frames hold macros.
  for (const auto& frame : frames_) frame->variables.clear();
}

Evaluator::Scope::Scope(Evaluator& evaluator, Frame& parent) : evaluator_(evaluator) {
  if (evaluator.free_.empty()) {
    evaluator.runtime_.allocate(sizeof(Frame));
    evaluator.frames_.push_back(std::make_unique<Frame>());
    evaluator.free_.push_back(evaluator.frames_.back().get());
  }
  frame_ = evaluator.free_.back();
  evaluator.free_.pop_back();
  frame_->parent = &parent;
}

Evaluator::Scope::~Scope() {
  if (frame_->captured) return;
  frame_->variables.clear();
  evaluator_.free_.push_back(frame_);
}

Rendering Evaluator::run(const Body& body, const Variables& variables) {
  Frame base;
  const auto names = globals();
  for (const auto& [name, value] : names) base.set(name, value);
  const Scope context(*this, base);
  for (const auto& [name, value] : variables) context->set(name, value);
  const Scope root(*this, *context);
  root_ = &*root;
  Rendering result;
  Output out;
  out.whole = true;
  execute(body, *root, out);
  result.text = std::move(out.text);
  result.generated = std::move(out.spans);
  result.generated_elsewhere =
      !std::all_of(held_.begin(), held_.end(), [](const auto& entry) { return entry.second.printed; });
  for (const auto& frame : frames_) frame->variables.clear();
  return result;
}

void Evaluator::emit(std::string_view text, Output& out) {
  if (out.text.size() + text.size() > runtime_.limits().max_output)
    fail("MemoryError", fmt::format("the template writes more than {} bytes", runtime_.limits().max_output));
  if (!out.whole) runtime_.allocate(text.size());
  out.text += text;
}

Value Evaluator::hold(Output made) {
  Value text = runtime_.string(std::move(made.text));
  if (made.spans.empty()) return text;
  runtime_.allocate(sizeof(Held) + made.spans.size() * sizeof(Span));
  const std::string* const place = &text.bytes();
  held_.insert_or_assign(place, Held{text, std::move(made.spans)});
  return text;
}

void Evaluator::emit_value(const Value& text, Output& out) {
  const std::size_t begin = out.text.size();
  emit(text.bytes(), out);
  const auto held = held_.find(&text.bytes());
  if (held == held_.end()) return;
  held->second.printed = true;
  runtime_.charge(held->second.spans.size());
  for (const Span& span : held->second.spans) out.spans.push_back({begin + span.begin, begin + span.end});
}

Evaluator::Flow Evaluator::execute(const Body& body, Frame& frame, Output& out) {
  for (const auto& node : body) {
    runtime_.charge(1);
    if (node->kind == StatementKind::Data) {
      emit(node->text, out);
      continue;
    }
    try {
      const Flow flow = execute(*node, frame, out);
      if (flow != Flow::Next) return flow;
    } catch (Failure& failure) {
      if (failure.line == 0) failure.line = node->line;
      throw;
    }
  }
  return Flow::Next;
}

Evaluator::Flow Evaluator::execute(const Statement& node, Frame& frame, Output& out) {
  const Runtime::Deeper deeper(runtime_);
  switch (node.kind) {
    case StatementKind::Data:
      emit(node.text, out);
      break;
    case StatementKind::Output:
      print(node, frame, out);
      break;
    case StatementKind::If:
      return branch(node, frame, out);
    case StatementKind::For:
      loop(node, evaluate(*node.expressions[0], frame), 0, frame, out);
      break;
    case StatementKind::Set:
      assign(*node.target, evaluate(*node.expressions[0], frame), frame);
      break;
    case StatementKind::SetBlock: {
      Value text = capture(node.bodies[0], frame);
      if (node.expressions[0]) text = filtered(*node.expressions[0], text, frame);
      assign(*node.target, std::move(text), frame);
      break;
    }
    case StatementKind::Macro: {
      frame.set(node.text, macro(node, frame, node.text));
      break;
    }
    case StatementKind::CallBlock:
      call_block(node, frame, out);
      break;
    case StatementKind::FilterBlock: {
      const Value text = capture(node.bodies[0], frame);
      emit(runtime_.str(filtered(*node.expressions[0], text, frame)), out);
      break;
    }
    case StatementKind::With:
      with(node, frame, out);
      break;
    case StatementKind::Scope:
      scope(node, frame, out);
      break;
    case StatementKind::Generation:
      generation(node, frame, out);
      break;
    case StatementKind::Break:
      return Flow::Break;
    case StatementKind::Continue:
      return Flow::Continue;
    case StatementKind::Unavailable:
      fail("TypeError", fmt::format("{{% {} %}}: no loader for this environment specified", node.text));
  }
  return Flow::Next;
}

void Evaluator::print(const Statement& node, Frame& frame, Output& out) {
  for (const ExpressionPtr& expression : node.expressions) {
    const Value value = evaluate(*expression, frame);
    if (autoescape_ && !(value.is_string() && value.text().markup))
      emit(escape_html(runtime_.str(value)), out);
    else if (value.is_string())
      emit_value(value, out);
    else
      emit(runtime_.str(value), out);
  }
}

Evaluator::Flow Evaluator::branch(const Statement& node, Frame& frame, Output& out) {
  for (std::size_t i = 0; i < node.expressions.size(); ++i)
    if (truth(evaluate(*node.expressions[i], frame))) return execute(node.bodies[i], frame, out);
  const bool has_else = node.bodies.size() > node.expressions.size();
  return has_else ? execute(node.bodies.back(), frame, out) : Flow::Next;
}

void Evaluator::loop(const Statement& node, const Value& items, std::int64_t depth0, Frame& frame,
                     Output& out) {
  auto state = std::make_shared<Loop>();
  state->items = runtime_.elements(items);
  state->depth0 = depth0;
  if (const ExpressionPtr& condition = node.expressions[1]) {
    state->condition = [this, &node, &frame, &condition](const Value& item) {
      const Scope scope(*this, frame);
      assign(*node.target, item, *scope);
      return truth(evaluate(*condition, *scope));
    };
  }
  if (node.recursive) {
    state->recurse = [this, &node, &frame](const Value& inner, std::int64_t depth) {
      Output text;
      loop(node, inner, depth, frame, text);
      return hold(std::move(text));
    };
  }
  const Value variable = Value::object(Kind::Loop, state);
  // The closures refer to this call: whatever outlives it finds a loop at its end.
  struct Close {
    Loop& loop;
    ~Close() { loop.condition = nullptr, loop.recurse = nullptr, loop.next = loop.items.size(); }
  } close{*state};
  while (state->advance()) {
    runtime_.charge(1);
    const Scope scope(*this, frame);
    assign(*node.target, state->current, *scope);
    scope->set("loop", variable);
    if (execute(node.bodies[0], *scope, out) == Flow::Break) break;
  }
  if (state->index0 < 0 && node.bodies.size() > 1) {
    const Scope scope(*this, frame);
    execute(node.bodies[1], *scope, out);
  }
}

void Evaluator::with(const Statement& node, Frame& frame, Output& out) {
  const Scope scope(*this, frame);
  for (std::size_t i = 0; i < node.targets.size(); ++i)
    assign(*node.targets[i], evaluate(*node.expressions[i], frame), *scope);
  execute(node.bodies[0], *scope, out);
}

void Evaluator::scope(const Statement& node, Frame& frame, Output& out) {
  const bool outer = autoescape_;
  if (!node.expressions.empty()) autoescape_ = truth(evaluate(*node.expressions[0], frame));
  const Scope scope(*this, node.from_context ? *root_ : frame);
  execute(node.bodies[0], *scope, out);
  autoescape_ = outer;
}

void Evaluator::generation(const Statement& node, Frame& frame, Output& out) {
  const std::size_t begin = out.text.size();
  const Scope scope(*this, frame);
  execute(node.bodies[0], *scope, out);
  if (!out.whole) runtime_.allocate(sizeof(Span));
  out.spans.push_back({begin, out.text.size()});
}

void Evaluator::call_block(const Statement& node, Frame& frame, Output& out) {
  const Expression& call = *node.expressions[0];
  const Value function = evaluate(*call.children[0], frame);
  Arguments arguments = arguments_of(call.arguments.get(), frame);
  arguments.named.emplace_back("caller", macro(node, frame, "caller"));
  const Value made = runtime_.call(function, std::move(arguments));
  if (made.is_string())
    emit_value(made, out);
  else
    emit(runtime_.str(made), out);
}

void Evaluator::assign(const Expression& target, Value value, Frame& frame) {
  switch (target.kind) {
    case ExpressionKind::Name:
      return frame.set(target.text, std::move(value));
    case ExpressionKind::NamespaceTarget: {
      const Value space = lookup(target.text, frame);
      if (!space.is(Kind::Namespace))
        fail("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
      const std::string& name = target.operators[0];
      if (name.starts_with("_"))
        fail("SecurityError",
             fmt::format(
                 "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'",
                 name));
      return space.as<Namespace>().attributes.set(runtime_.string(name), std::move(value));
    }
    default: {
      std::vector<Value> parts = runtime_.elements(value);
      if (parts.size() != target.children.size()) {
        fail("ValueError", fmt::format("{} values to unpack (expected {}, got {})",
                                       parts.size() < target.children.size() ? "not enough" : "too many",
                                       target.children.size(), parts.size()));
      }
      for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], std::move(parts[i]), frame);
    }
  }
}

Value Evaluator::capture(const Body& body, Frame& frame) {
  Output text;
  const Scope scope(*this, frame);
  execute(body, *scope, text);
  return hold(std::move(text));
}

Value Evaluator::macro(const Statement& node, Frame& frame, const std::string& name) {
  for (Frame* scope = &frame; scope && !scope->captured; scope = scope->parent) scope->captured = true;
  auto result = std::make_shared<Callable>();
  result->name = name;
  result->description = fmt::format("<Macro {}>", repr(name));
  result->call = [this, &node, &frame, name](Runtime&, Arguments arguments) {
    return call_macro(node, frame, name, std::move(arguments));
  };
  // The frame stays until the rendering ends.
  runtime_.allocate(sizeof(Callable) + 512);
  return Value::object(Kind::Callable, std::move(result));
}

Value Evaluator::call_macro(const Statement& node, Frame& frame, const std::string& name,
                            Arguments arguments) {
  const Scope scope(*this, frame);
  const std::size_t positional = std::min(arguments.values.size(), node.parameters.size());
  std::vector<std::pair<std::string, Value>>& named = arguments.named;
  const auto take = [&](std::string_view key) -> std::optional<Value> {
    const auto at =
        std::find_if(named.begin(), named.end(), [&](const auto& entry) { return entry.first == key; });
    if (at == named.end()) return std::nullopt;
    Value value = std::move(at->second);
    named.erase(at);
    return value;
  };
  for (std::size_t i = 0; i < node.parameters.size(); ++i) {
    const Parameter& parameter = node.parameters[i];
    std::optional<Value> value;
    if (i < positional)
      value = arguments.values[i];
    else
      value = take(parameter.name);
    if (!value) {
      value = parameter.otherwise
                  ? evaluate(*parameter.otherwise, *scope)
                  : Value::undefined(fmt::format("parameter {} was not provided", repr(parameter.name)));
    }
    scope->set(parameter.name, std::move(*value));
  }
  if (node.takes_caller) {
    const std::optional<Value> caller = take("caller");
    scope->set("caller", caller ? *caller : Value::undefined("No caller defined"));
  }
  if (node.takes_named_rest) {
    auto rest = std::make_shared<Dict>();
    for (auto& [key, value] : named) rest->set(runtime_.string(key), std::move(value));
    scope->set("kwargs", Value::dict(std::move(rest)));
  } else if (!named.empty()) {
    fail("TypeError",
         fmt::format("macro {} takes no keyword argument {}", repr(name), repr(named.front().first)));
  }
  std::vector<Value> rest(arguments.values.begin() + static_cast<std::ptrdiff_t>(positional),
                          arguments.values.end());
  if (node.takes_rest) {
    scope->set("varargs", runtime_.tuple(std::move(rest)));
  } else if (!rest.empty()) {
    fail("TypeError",
         fmt::format("macro {} takes not more than {} argument(s)", repr(name), node.parameters.size()));
  }
  Output text;
  execute(node.bodies[0], *scope, text);
  return hold(std::move(text));
}

}  // namespace candela::jinja
