#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "template/runtime.h"

namespace candela::jinja {

/// The variable `loop`: where a for loop stands. Its condition is asked when an element is reached, or looked
/// ahead to.
struct Loop {
  std::vector<Value> items;
  std::size_t next = 0;
  std::function<bool(const Value&)> condition;                            // empty: all elements
  std::function<Value(const Value& items, std::int64_t depth0)> recurse;  // empty: the loop is not recursive
  std::int64_t depth0 = 0;
  std::int64_t index0 = -1;
  Value current;
  std::optional<Value> before, after, last_changed;
  std::optional<std::int64_t> known_length;

  /// Moves to the next element; false at the end.
  bool advance();
  const std::optional<Value>& peek();
  std::int64_t length();
  Value call(Runtime& runtime, Arguments arguments);

 private:
  std::optional<Value> pull();
};

/// loop.name; nothing if there is none.
std::optional<Value> loop_attribute(Runtime& runtime, const Value& loop, const std::string& name);

}  // namespace candela::jinja
