#include "template/loop.h"

#include <utility>

namespace candela::jinja {

std::optional<Value> Loop::pull() {
  while (next < items.size()) {
    Value item = items[next++];
    if (!condition || condition(item)) return item;
  }
  return std::nullopt;
}

bool Loop::advance() {
  std::optional<Value> item = after ? std::exchange(after, std::nullopt) : pull();
  if (!item) return false;
  if (++index0 > 0) before = current;
  current = std::move(*item);
  return true;
}

const std::optional<Value>& Loop::peek() {
  if (!after) after = pull();
  return after;
}

std::int64_t Loop::length() {
  if (known_length) return *known_length;
  if (condition) {
    std::vector<Value> rest;
    while (std::optional<Value> item = pull()) rest.push_back(std::move(*item));
    items = std::move(rest);
    next = 0;
    condition = nullptr;
    known_length = static_cast<std::int64_t>(items.size()) + index0 + 1 + (after ? 1 : 0);
  } else {
    known_length = static_cast<std::int64_t>(items.size());
  }
  return *known_length;
}

Value Loop::call(Runtime&, Arguments arguments) {
  if (!recurse) fail("TypeError", "The loop must have the 'recursive' marker to be called recursively.");
  const Bound bound("loop", std::move(arguments), {"iterable"}, 1);
  return recurse(bound[0], depth0 + 1);
}

std::optional<Value> loop_attribute(Runtime&, const Value& value, const std::string& name) {
  Loop& loop = value.as<Loop>();
  if (name == "index") return Value::integer(loop.index0 + 1);
  if (name == "index0") return Value::integer(loop.index0);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "last") return Value::boolean(!loop.peek().has_value());
  if (name == "length") return Value::integer(loop.length());
  if (name == "revindex") return Value::integer(loop.length() - loop.index0);
  if (name == "revindex0") return Value::integer(loop.length() - loop.index0 - 1);
  if (name == "depth") return Value::integer(loop.depth0 + 1);
  if (name == "depth0") return Value::integer(loop.depth0);
  if (name == "previtem") return loop.before ? *loop.before : Value::undefined("there is no previous item");
  if (name == "nextitem") return loop.peek() ? *loop.peek() : Value::undefined("there is no next item");
  if (name == "cycle") {
    return callable("cycle", [value](Runtime&, Arguments arguments) {
      if (arguments.values.empty()) fail("TypeError", "no items for cycling given");
      const auto index = static_cast<std::size_t>(value.as<Loop>().index0);
      return arguments.values[index % arguments.values.size()];
    });
  }
  if (name == "changed") {
    return callable("changed", [value](Runtime& runtime, Arguments arguments) {
      Loop& own = value.as<Loop>();
      const Value now = runtime.tuple(std::move(arguments.values));
      runtime.charge(now);
      if (own.last_changed && equal(*own.last_changed, now)) return Value::boolean(false);
      own.last_changed = now;
      return Value::boolean(true);
    });
  }
  return std::nullopt;
}

}  // namespace candela::jinja
