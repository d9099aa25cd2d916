#include "template/runtime.h"

#include <algorithm>
#include <fmt/format.h>

#include "template/library.h"
#include "template/loop.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

const std::vector<std::string_view>& mutating(Kind kind) {
  static const std::vector<std::string_view> list = {"append", "clear", "pop",    "reverse",
                                                     "insert", "sort",  "extend", "remove"};
  static const std::vector<std::string_view> dict = {"clear", "pop", "popitem", "setdefault", "update"};
  static const std::vector<std::string_view> none;
  return kind == Kind::List ? list : kind == Kind::Dict ? dict : none;
}

Value unsafe(const Value& object, const std::string& name) {
  return Value::undefined(
      fmt::format("access to attribute {} of '{}' object is unsafe.", repr(name), type_name(object)),
      "SecurityError");
}

Value missing(const Value& object, const Value& key) {
  if (key.is_string()) {
    return Value::undefined(fmt::format("'{}' has no attribute {}", object_type(object), repr(key.bytes())));
  }
  return Value::undefined(fmt::format("{} has no element {}", object_type(object), repr(key, 1000)));
}

/// obj[key] where Python has such an item.
std::optional<Value> item_of(Runtime& runtime, const Value& object, const Value& key) {
  switch (object.kind()) {
    case Kind::Undefined:
      fail_undefined(object);
    case Kind::Dict: {
      if (key.is(Kind::List) || key.is(Kind::Dict)) return std::nullopt;
      runtime.charge(key);
      const Value* found = object.as_dict().find(key);
      return found ? std::optional(*found) : std::nullopt;
    }
    case Kind::List:
    case Kind::Tuple: {
      if (!key.is_integral()) return std::nullopt;
      const auto size = static_cast<std::int64_t>(object.items().size());
      const std::int64_t i = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
      if (i < 0 || i >= size) return std::nullopt;
      return object.items()[static_cast<std::size_t>(i)];
    }
    case Kind::Range: {
      if (!key.is_integral()) return std::nullopt;
      const Range& range = object.as<Range>();
      const std::int64_t i = key.as_integer() < 0 ? key.as_integer() + range.size() : key.as_integer();
      if (i < 0 || i >= range.size()) return std::nullopt;
      return Value::integer(range.start + i * range.step);
    }
    case Kind::String: {
      if (!key.is_integral()) return std::nullopt;
      const Text& text = object.text();
      const auto size = static_cast<std::int64_t>(text.length);
      const std::int64_t i = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
      if (i < 0 || i >= size) return std::nullopt;
      const auto at = static_cast<std::size_t>(i);
      if (text.ascii()) return runtime.string(text.bytes.substr(at, 1), text.markup);
      runtime.charge(text.bytes.size() / 16);
      const std::size_t begin = byte_offset(text.bytes, at);
      std::size_t end = begin;
      next_code_point(text.bytes, end);
      return runtime.string(text.bytes.substr(begin, end - begin), text.markup);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

void Runtime::charge(std::uint64_t steps) {
  steps_ += steps;
  if (steps_ > limits_.max_steps)
    fail("RuntimeError", fmt::format("the template takes more than {} steps", limits_.max_steps));
}

void Runtime::allocate(std::uint64_t bytes) {
  charge(bytes / 64);
  if (bytes > limits_.max_bytes || bytes_ > limits_.max_bytes - bytes)
    fail("MemoryError", fmt::format("the template builds more than {} bytes", limits_.max_bytes));
  bytes_ += bytes;
}

Runtime::Deeper::Deeper(Runtime& runtime) : runtime_(runtime) {
  if (runtime.depth_ >= runtime.limits_.max_depth) {
    fail("RecursionError",
         fmt::format("calls and expressions nest more than {} deep", runtime.limits_.max_depth));
  }
  ++runtime.depth_;
}

Value Runtime::track(std::shared_ptr<Namespace> space) {
  allocate(sizeof(Namespace));
  namespaces_.push_back(space);
  return Value::object(Kind::Namespace, std::move(space));
}

Runtime::~Runtime() {
  for (const auto& space : namespaces_) space->attributes = Dict{};
}

Value Runtime::string(std::string bytes, bool markup) {
  allocate(bytes.size() + sizeof(Text));
  return Value::string(std::move(bytes), markup);
}

Value Runtime::list(std::vector<Value> items) {
  allocate(items.size() * sizeof(Value) + sizeof(Sequence));
  return Value::list(std::move(items));
}

Value Runtime::tuple(std::vector<Value> items) {
  allocate(items.size() * sizeof(Value) + sizeof(Sequence));
  return Value::tuple(std::move(items));
}

std::string Runtime::str(const Value& value) {
  if (!value.is_string()) charge(value);
  std::string text = jinja::str(value);
  allocate(text.size());
  return text;
}

std::string Runtime::repr(const Value& value) {
  charge(value);
  std::string text = jinja::repr(value);
  allocate(text.size());
  return text;
}

std::vector<Value> Runtime::elements(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
      return {};
    case Kind::List:
    case Kind::Tuple:
      allocate(value.items().size() * sizeof(Value));
      return value.items();
    case Kind::View:
      allocate(value.as<View>().items.size() * sizeof(Value));
      return value.as<View>().items;
    case Kind::Dict: {
      std::vector<Value> keys;
      allocate(value.as_dict().entries.size() * sizeof(Value));
      for (const auto& [key, entry] : value.as_dict().entries) keys.push_back(key);
      return keys;
    }
    case Kind::Range: {
      const Range& range = value.as<Range>();
      allocate(static_cast<std::uint64_t>(range.size()) * sizeof(Value));
      std::vector<Value> numbers;
      for (std::int64_t i = 0; i < range.size(); ++i)
        numbers.push_back(Value::integer(range.start + i * range.step));
      return numbers;
    }
    case Kind::String: {
      const Text& text = value.text();
      allocate(text.length * (sizeof(Value) + sizeof(Text)));
      std::vector<Value> characters;
      for (std::size_t i = 0; i < text.bytes.size();) {
        const std::size_t start = i;
        next_code_point(text.bytes, i);
        characters.push_back(Value::string(text.bytes.substr(start, i - start)));
      }
      return characters;
    }
    case Kind::Iterator: {
      Iterator& iterator = value.as<Iterator>();
      std::vector<Value> rest(iterator.items.begin() + static_cast<std::ptrdiff_t>(iterator.next),
                              iterator.items.end());
      iterator.next = iterator.items.size();
      if (iterator.failure) {
        const Failure failure = *iterator.failure;
        iterator.failure.reset();
        throw failure;
      }
      allocate(rest.size() * sizeof(Value));
      return rest;
    }
    default:
      fail("TypeError", fmt::format("'{}' object is not iterable", type_name(value)));
  }
}

Value Runtime::call(const Value& function, Arguments arguments) {
  const Deeper deeper(*this);
  charge(1);
  if (function.is_undefined()) fail_undefined(function);
  if (function.is(Kind::Callable)) return function.as<Callable>().call(*this, std::move(arguments));
  if (function.is(Kind::Loop)) return function.as<Loop>().call(*this, std::move(arguments));
  if (function.is(Kind::Joiner)) {
    Joiner& joiner = function.as<Joiner>();
    return std::exchange(joiner.used, true) ? joiner.separator : string("");
  }
  fail("TypeError", fmt::format("'{}' object is not callable", type_name(function)));
}

Value Runtime::filter(std::string_view name, const Value& value, Arguments arguments) {
  const Deeper deeper(*this);
  const Filter found = find_filter(name);
  if (!found) fail("TemplateRuntimeError", fmt::format("No filter named {} found.", jinja::repr(name)));
  charge(1);
  return found(*this, value, std::move(arguments));
}

bool Runtime::test(std::string_view name, const Value& value, Arguments arguments) {
  const Deeper deeper(*this);
  const Test found = find_test(name);
  if (!found) fail("TemplateRuntimeError", fmt::format("No test named {} found.", jinja::repr(name)));
  charge(1);
  return found(*this, value, std::move(arguments));
}

std::optional<Value> attribute_of(Runtime& runtime, const Value& object, const std::string& name) {
  switch (object.kind()) {
    case Kind::Undefined:
      if (name.starts_with("__")) return std::nullopt;
      fail_undefined(object);
    case Kind::Namespace: {
      const Value* found = object.as<Namespace>().attributes.find(name);
      return found ? std::optional(*found) : std::nullopt;
    }
    case Kind::Cycler: {
      Cycler& cycler = object.as<Cycler>();
      if (name == "current") return cycler.items[cycler.position];
      if (name == "next")
        return callable("next", [object](Runtime&, Arguments) {
          Cycler& own = object.as<Cycler>();
          const Value value = own.items[own.position];
          own.position = (own.position + 1) % own.items.size();
          return value;
        });
      if (name == "reset")
        return callable("reset", [object](Runtime&, Arguments) {
          object.as<Cycler>().position = 0;
          return Value();
        });
      return std::nullopt;
    }
    case Kind::String:
      return string_method(object, name);
    case Kind::Loop:
      return loop_attribute(runtime, object, name);
    case Kind::Callable:
      if (name == "name" && object.as<Callable>().description.starts_with("<Macro"))
        return runtime.string(object.as<Callable>().name);
      if (name == "fromkeys" && object.as<Callable>().name == "dict") {
        Value empty = Value::dict(std::make_shared<Dict>());
        return container_method(empty, name);
      }
      return std::nullopt;
    default:
      return container_method(object, name);
  }
}

Value get_attribute(Runtime& runtime, const Value& object, const std::string& name) {
  const auto& unsafe_names = mutating(object.kind());
  if (std::find(unsafe_names.begin(), unsafe_names.end(), name) != unsafe_names.end())
    return unsafe(object, name);
  // Python's own attributes; those of a dict or namespace may be keys of the template's.
  const bool has_keys = object.is(Kind::Dict) || object.is(Kind::Namespace);
  if (name.starts_with("__") && !has_keys && !object.is_undefined()) return unsafe(object, name);
  if (std::optional<Value> attribute = attribute_of(runtime, object, name)) return *attribute;
  const Value key = runtime.string(name);
  if (std::optional<Value> item = item_of(runtime, object, key)) return *item;
  return missing(object, key);
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  if (std::optional<Value> item = item_of(runtime, object, key)) return *item;
  if (key.is_string()) {
    const std::string& name = key.bytes();
    const auto& unsafe_names = mutating(object.kind());
    if (std::find(unsafe_names.begin(), unsafe_names.end(), name) != unsafe_names.end() ||
        name.starts_with("__"))
      return unsafe(object, name);
    if (std::optional<Value> attribute = attribute_of(runtime, object, name)) return *attribute;
  }
  return missing(object, key);
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  if (object.is_undefined()) fail_undefined(object);
  if (!object.is_string() && !object.is_sequence() && !object.is(Kind::Range))
    return missing(object, runtime.string("slice"));
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->is_integral()) return missing(object, runtime.string("slice"));
  }
  const std::int64_t size = size_of(object);
  const std::int64_t by = step.is_none() ? 1 : step.as_integer();
  if (by == 0) fail("ValueError", "slice step cannot be zero");
  const auto bounded = [&](const Value& bound, std::int64_t otherwise) {
    if (bound.is_none()) return otherwise;
    std::int64_t i = bound.as_integer();
    if (i < 0) i = i < -size ? -1 : i + size;
    if (by > 0) return std::clamp<std::int64_t>(i, 0, size);
    return std::clamp<std::int64_t>(i, -1, size - 1);
  };
  const std::int64_t from = bounded(start, by > 0 ? 0 : size - 1);
  const std::int64_t to = bounded(stop, by > 0 ? size : -1);
  if (object.is_string() && by == 1) {
    const Text& text = object.text();
    if (to <= from) return runtime.string("", text.markup);
    if (!text.ascii()) runtime.charge(text.bytes.size() / 16);
    const auto offset = [&](std::int64_t i) {
      return text.ascii() ? static_cast<std::size_t>(i)
                          : byte_offset(text.bytes, static_cast<std::size_t>(i));
    };
    const std::size_t begin = offset(from);
    return runtime.string(text.bytes.substr(begin, offset(to) - begin), text.markup);
  }
  if (object.is(Kind::Range)) {
    const Range& range = object.as<Range>();
    return Value::object(Kind::Range,
                         std::make_shared<Range>(Range{range.start + from * range.step,
                                                       range.start + to * range.step, range.step * by}));
  }
  const std::vector<Value> items = runtime.elements(object);
  std::vector<Value> picked;
  for (std::int64_t i = from; by > 0 ? i < to : i > to;) {
    picked.push_back(items[static_cast<std::size_t>(i)]);
    if (by > 0 ? by >= to - i : by <= to - i) break;
    i += by;
  }
  if (object.is_string()) {
    std::string text;
    for (const Value& item : picked) text += item.bytes();
    return runtime.string(std::move(text), object.text().markup);
  }
  return object.is(Kind::Tuple) ? runtime.tuple(std::move(picked)) : runtime.list(std::move(picked));
}

std::int64_t size_of(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
      return 0;
    case Kind::String:
      return static_cast<std::int64_t>(value.text().length);
    case Kind::List:
    case Kind::Tuple:
      return static_cast<std::int64_t>(value.items().size());
    case Kind::Dict:
      return static_cast<std::int64_t>(value.as_dict().entries.size());
    case Kind::View:
      return static_cast<std::int64_t>(value.as<View>().items.size());
    case Kind::Range:
      return value.as<Range>().size();
    default:
      fail("TypeError", fmt::format("object of type '{}' has no len()", type_name(value)));
  }
}

Bound::Bound(std::string_view function, Arguments arguments, std::initializer_list<const char*> names,
             std::size_t required)
    : function_(function), values_(names.size()) {
  if (arguments.values.size() > names.size()) {
    fail("TypeError", fmt::format("{}() takes at most {} arguments ({} given)", function, names.size(),
                                  arguments.values.size()));
  }
  for (std::size_t i = 0; i < arguments.values.size(); ++i) values_[i] = std::move(arguments.values[i]);
  for (auto& [name, value] : arguments.named) {
    const auto at = std::find(names.begin(), names.end(), std::string_view(name));
    if (at == names.end())
      fail("TypeError", fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    std::optional<Value>& place = values_[static_cast<std::size_t>(at - names.begin())];
    if (place) fail("TypeError", fmt::format("{}() got multiple values for argument '{}'", function, name));
    place = std::move(value);
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (!values_[i])
      fail("TypeError", fmt::format("{}() missing a required argument: '{}'", function, names.begin()[i]));
  }
}

std::int64_t Bound::integer(std::size_t i, std::int64_t otherwise) const {
  return has(i) ? index_of(*values_[i]) : otherwise;
}

const std::string& Bound::text(std::size_t i) const {
  if (!has(i) || !values_[i]->is_string()) {
    if (has(i) && values_[i]->is_undefined()) fail_undefined(*values_[i]);
    fail("TypeError", fmt::format("{}() argument {} must be str, not {}", function_, i + 1,
                                  has(i) ? type_name(*values_[i]) : "absent"));
  }
  return values_[i]->bytes();
}

std::int64_t index_of(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_integral())
    fail("TypeError", fmt::format("'{}' object cannot be interpreted as an integer", type_name(value)));
  return value.as_integer();
}

void fail_undefined(const Value& value) {
  fail(value.undefined().exception, value.undefined().message);
}

void require_defined(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
}

}  // namespace candela::jinja
