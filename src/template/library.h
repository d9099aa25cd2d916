#pragma once

#include <string_view>
#include <vector>

#include "template/runtime.h"

/// Filters, tests and functions that templates know by name.
namespace candela::jinja {

using Filter = Value (*)(Runtime&, const Value&, Arguments);
using Test = bool (*)(Runtime&, const Value&, Arguments);

template <class Function>
struct Named {
  std::string_view name;
  Function function;
};

/// Null if there is none.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

/// The filters by what they work on.
const std::vector<Named<Filter>>& text_filters();
const std::vector<Named<Filter>>& sequence_filters();
const std::vector<Named<Filter>>& value_filters();

/// range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> globals();

/// Methods of str, dict, list, tuple and numbers; nothing if the type has none of this name.
std::optional<Value> string_method(const Value& text, const std::string& name);
std::optional<Value> container_method(const Value& container, const std::string& name);

/// The value that `attribute` (a dotted path, or an int) leads to from `item`.
Value follow(Runtime& runtime, Value item, const Value& attribute, const Value* otherwise = nullptr);

/// json.dumps(value, ...).
struct JsonStyle {
  bool ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent{};
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace candela::jinja
