#include <algorithm>
#include <bit>
#include <fmt/format.h>
#include <set>

#include "template/library.h"
#include "template/text.h"

/// Filters that work on lists, dicts and other iterables.
namespace candela::jinja {
namespace {

Value lowered(Runtime& runtime, const Value& value) {
  return value.is_string() ? runtime.string(lower(value.bytes())) : value;
}

/// Iterator over what `each` gives for the elements of `value`. Its elements are computed now; an error comes
/// when it is reached.
template <class Each>
Value iterate(Runtime& runtime, const Value& value, Each each) {
  auto iterator = std::make_shared<Iterator>();
  try {
    for (const Value& item : runtime.elements(value)) {
      runtime.charge(1);
      each(item, iterator->items);
    }
  } catch (const Failure& failure) {
    // A limit that is reached ends the template whatever becomes of the iterator.
    if (failure.type == "RuntimeError" || failure.type == "MemoryError" || failure.type == "RecursionError")
      throw;
    iterator->failure = std::make_shared<Failure>(failure);
  }
  runtime.allocate(iterator->items.size() * sizeof(Value));
  return Value::object(Kind::Iterator, std::move(iterator));
}

void sort_by(Runtime& runtime, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  std::uint64_t weight = 1;
  for (const auto& [key, value] : keyed) weight += key.weight();
  runtime.charge(weight * static_cast<std::uint64_t>(std::bit_width(keyed.size())));
  // Equal elements keep their order in both directions.
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
}

Value first(Runtime& runtime, const Value& value, Arguments) {
  if (value.is(Kind::Iterator)) {
    Iterator& iterator = value.as<Iterator>();
    if (iterator.next < iterator.items.size()) return iterator.items[iterator.next++];
  }
  if (value.is_string()) {
    if (value.bytes().empty()) return Value::undefined("No first item, sequence was empty.");
    return get_item(runtime, value, Value::integer(0));
  }
  if (value.is_sequence() && !value.items().empty()) return value.items().front();
  const std::vector<Value> items = runtime.elements(value);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Runtime& runtime, const Value& value, Arguments) {
  if (value.is(Kind::Iterator))
    fail("TypeError", fmt::format("'{}' object is not reversible", type_name(value)));
  if (value.is_string() && !value.bytes().empty()) return get_item(runtime, value, Value::integer(-1));
  if (value.is_sequence() && !value.items().empty()) return value.items().back();
  const std::vector<Value> items = runtime.elements(value);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value random(Runtime& runtime, const Value& value, Arguments) {
  const std::int64_t size = size_of(value);
  if (size == 0) return Value::undefined("No random item, sequence was empty.");
  return get_item(
      runtime, value,
      Value::integer(static_cast<std::int64_t>(runtime.random()() % static_cast<std::uint64_t>(size))));
}

Value length(Runtime&, const Value& value, Arguments) {
  return Value::integer(size_of(value));
}
Value list(Runtime& runtime, const Value& value, Arguments) {
  return runtime.list(runtime.elements(value));
}

Value items(Runtime& runtime, const Value& value, Arguments) {
  if (value.is_undefined()) return iterate(runtime, value, [](const Value&, std::vector<Value>&) {});
  if (!value.is(Kind::Dict)) {
    auto iterator = std::make_shared<Iterator>();
    iterator->failure =
        std::make_shared<Failure>(Failure{"TypeError", "Can only get item pairs from a mapping.", 0});
    return Value::object(Kind::Iterator, std::move(iterator));
  }
  const Value view = runtime.call(*container_method(value, "items"), {});
  return iterate(runtime, view, [](const Value& item, std::vector<Value>& out) { out.push_back(item); });
}

Value join(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("join", std::move(arguments), {"d", "attribute"});
  const std::string separator = bound.has(0) ? runtime.str(bound[0]) : "";
  std::string out;
  bool is_first = true;
  for (const Value& item : runtime.elements(value)) {
    const std::string part = runtime.str(bound.some(1) ? follow(runtime, item, bound[1]) : item);
    runtime.allocate(part.size() + separator.size());
    if (!is_first) out += separator;
    is_first = false;
    out += part;
  }
  return runtime.string(std::move(out));
}

Value reverse(Runtime& runtime, const Value& value, Arguments) {
  if (value.is_string()) return get_slice(runtime, value, Value(), Value(), Value::integer(-1));
  std::vector<Value> items = runtime.elements(value);
  std::reverse(items.begin(), items.end());
  if (value.is(Kind::Iterator)) return runtime.list(std::move(items));
  auto iterator = std::make_shared<Iterator>();
  iterator->items = std::move(items);
  iterator->name = value.is(Kind::List) ? "list_reverseiterator" : "reversed";
  return Value::object(Kind::Iterator, std::move(iterator));
}

Value sort(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("sort", std::move(arguments), {"reverse", "case_sensitive", "attribute"});
  const bool sensitive = bound.flag(1, false);
  std::vector<Value> attributes;
  if (bound.some(2)) {
    if (bound[2].is_string()) {
      for (std::string& part : split(bound[2].bytes(), ","))
        attributes.push_back(runtime.string(std::move(part)));
    } else {
      attributes.push_back(bound[2]);
    }
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : runtime.elements(value)) {
    std::vector<Value> key;
    for (const Value& attribute : attributes) key.push_back(follow(runtime, item, attribute));
    if (attributes.empty()) key.push_back(item);
    if (!sensitive)
      for (Value& part : key) part = lowered(runtime, part);
    keyed.emplace_back(runtime.tuple(std::move(key)), item);
  }
  sort_by(runtime, keyed, bound.flag(0, false));
  std::vector<Value> result;
  for (auto& [key, item] : keyed) result.push_back(std::move(item));
  return runtime.list(std::move(result));
}

Value dictsort(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("dictsort", std::move(arguments), {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? runtime.str(bound[1]) : "key";
  if (by != "key" && by != "value")
    fail("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
  require_defined(value);
  if (!value.is(Kind::Dict))
    fail("UndefinedError", fmt::format("'{}' has no attribute 'items'", object_type(value)));
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, own] : value.as_dict().entries) {
    const Value& chosen = by == "key" ? key : own;
    keyed.emplace_back(bound.flag(0, false) ? chosen : lowered(runtime, chosen), runtime.tuple({key, own}));
  }
  sort_by(runtime, keyed, bound.flag(2, false));
  std::vector<Value> result;
  for (auto& [key, item] : keyed) result.push_back(std::move(item));
  return runtime.list(std::move(result));
}

Value unique(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("unique", std::move(arguments), {"case_sensitive", "attribute"});
  std::set<Value, KeyLess> seen;
  return iterate(runtime, value, [&](const Value& item, std::vector<Value>& out) {
    Value key = bound.some(1) ? follow(runtime, item, bound[1]) : item;
    if (!bound.flag(0, false)) key = lowered(runtime, key);
    require_hashable(key);
    runtime.charge(key.weight() * 8);
    if (seen.insert(key).second) out.push_back(item);
  });
}

template <bool Largest>
Value extreme(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound(Largest ? "max" : "min", std::move(arguments), {"case_sensitive", "attribute"});
  const std::vector<Value> items = runtime.elements(value);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const Value* best = nullptr;
  Value best_key;
  for (const Value& item : items) {
    Value key = bound.some(1) ? follow(runtime, item, bound[1]) : item;
    if (!bound.flag(0, false)) key = lowered(runtime, key);
    runtime.charge(key);
    if (best && !(Largest ? less(best_key, key, ">") : less(key, best_key))) continue;
    best = &item;
    best_key = std::move(key);
  }
  return *best;
}

Value sum(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("sum", std::move(arguments), {"attribute", "start"});
  Value total = bound.get(1, Value::integer(0));
  if (total.is_string()) fail("TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : runtime.elements(value))
    total = arithmetic(runtime, "+", total, bound.some(0) ? follow(runtime, item, bound[0]) : item);
  return total;
}

Value map(Runtime& runtime, const Value& value, Arguments arguments) {
  const auto named = [&](const char* name) {
    return std::find_if(arguments.named.begin(), arguments.named.end(),
                        [&](const auto& entry) { return entry.first == name; });
  };
  if (arguments.values.empty() && named("attribute") != arguments.named.end()) {
    const Bound bound("map", std::move(arguments), {"attribute", "default"});
    const Value otherwise = bound.get(1);
    return iterate(runtime, value, [&](const Value& item, std::vector<Value>& out) {
      out.push_back(follow(runtime, item, bound[0], otherwise.is_none() ? nullptr : &otherwise));
    });
  }
  if (!truth(value)) return iterate(runtime, Value::list({}), [](const Value&, std::vector<Value>&) {});
  if (arguments.values.empty()) fail("FilterArgumentError", "map requires a filter argument");
  const std::string name = runtime.str(arguments.values.front());
  arguments.values.erase(arguments.values.begin());
  return iterate(runtime, value, [&](const Value& item, std::vector<Value>& out) {
    out.push_back(runtime.filter(name, item, arguments));
  });
}

template <bool Keep, bool ByAttribute>
Value select(Runtime& runtime, const Value& value, Arguments arguments) {
  if (!truth(value)) return iterate(runtime, Value::list({}), [](const Value&, std::vector<Value>&) {});
  Value attribute;
  if (ByAttribute) {
    if (arguments.values.empty()) fail("FilterArgumentError", "Missing parameter for attribute name");
    attribute = arguments.values.front();
    arguments.values.erase(arguments.values.begin());
  }
  std::optional<std::string> test;
  if (!arguments.values.empty()) {
    test = runtime.str(arguments.values.front());
    arguments.values.erase(arguments.values.begin());
  }
  return iterate(runtime, value, [&](const Value& item, std::vector<Value>& out) {
    const Value tested = ByAttribute ? follow(runtime, item, attribute) : item;
    if ((test ? runtime.test(*test, tested, arguments) : truth(tested)) == Keep) out.push_back(item);
  });
}

Value groupby(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("groupby", std::move(arguments), {"attribute", "default", "case_sensitive"}, 1);
  const bool sensitive = bound.flag(2, false);
  const Value otherwise = bound.get(1);
  const Value* missing = otherwise.is_none() ? nullptr : &otherwise;
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : runtime.elements(value)) {
    const Value key = follow(runtime, item, bound[0], missing);
    keyed.emplace_back(sensitive ? key : lowered(runtime, key), item);
  }
  sort_by(runtime, keyed, false);
  std::vector<Value> groups;
  for (std::size_t i = 0; i < keyed.size();) {
    std::vector<Value> members;
    const std::size_t start = i;
    while (i < keyed.size() && equal(keyed[i].first, keyed[start].first))
      members.push_back(keyed[i++].second);
    if (members.empty()) members.push_back(keyed[i++].second);  // NaN equals nothing
    const Value key = follow(runtime, members.front(), bound[0], missing);
    groups.push_back(runtime.tuple({key, runtime.list(std::move(members))}));
  }
  return runtime.list(std::move(groups));
}

Value batch(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("batch", std::move(arguments), {"linecount", "fill_with"}, 1);
  const std::int64_t count = bound.integer(0, 1);
  auto iterator = std::make_shared<Iterator>();
  std::vector<Value> row;
  for (const Value& item : runtime.elements(value)) {
    if (static_cast<std::int64_t>(row.size()) == count)
      iterator->items.push_back(runtime.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (bound.some(1) && count > static_cast<std::int64_t>(row.size())) {
      runtime.allocate(static_cast<std::uint64_t>(count) * sizeof(Value));
      row.resize(static_cast<std::size_t>(count), bound[1]);
    }
    iterator->items.push_back(runtime.list(std::move(row)));
  }
  return Value::object(Kind::Iterator, std::move(iterator));
}

Value slice(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("slice", std::move(arguments), {"slices", "fill_with"}, 1);
  const std::vector<Value> items = runtime.elements(value);
  const auto size = static_cast<std::int64_t>(items.size());
  const std::int64_t slices = bound.integer(0, 1);
  if (slices == 0) fail("ZeroDivisionError", "integer division or modulo by zero");
  auto iterator = std::make_shared<Iterator>();
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < slices; ++i) {
    const std::int64_t end = at + size / slices + (i < size % slices ? 1 : 0);
    std::vector<Value> part(items.begin() + at, items.begin() + end);
    if (bound.some(1) && i >= size % slices) part.push_back(bound[1]);
    runtime.charge(1);
    iterator->items.push_back(runtime.list(std::move(part)));
    at = end;
  }
  return Value::object(Kind::Iterator, std::move(iterator));
}

}  // namespace

Value follow(Runtime& runtime, Value item, const Value& attribute, const Value* otherwise) {
  const auto step = [&](const Value& key) {
    item = get_item(runtime, item, key);
    if (otherwise && item.is_undefined()) item = *otherwise;
  };
  if (!attribute.is_string()) {
    step(attribute);
    return item;
  }
  for (std::string& part : split(attribute.bytes(), ".")) {
    const bool number = !part.empty() && part.size() < 10 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    step(number ? Value::integer(std::stoll(part)) : runtime.string(std::move(part)));
  }
  return item;
}

const std::vector<Named<Filter>>& sequence_filters() {
  static const std::vector<Named<Filter>> all = {
      {"batch", batch},
      {"count", length},
      {"dictsort", dictsort},
      {"first", first},
      {"groupby", groupby},
      {"items", items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list", list},
      {"map", map},
      {"max", extreme<true>},
      {"min", extreme<false>},
      {"random", random},
      {"reject", select<false, false>},
      {"rejectattr", select<false, true>},
      {"reverse", reverse},
      {"select", select<true, false>},
      {"selectattr", select<true, true>},
      {"slice", slice},
      {"sort", sort},
      {"sum", sum},
      {"unique", unique},
  };
  return all;
}

}  // namespace candela::jinja
