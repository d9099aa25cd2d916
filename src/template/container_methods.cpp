#include <cmath>
#include <fmt/format.h>

#include "template/library.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

Value dict_view(Runtime& runtime, const Dict& dict, const std::string& what) {
  std::vector<Value> items;
  runtime.allocate(dict.entries.size() * sizeof(Value));
  for (const auto& [key, value] : dict.entries) {
    if (what == "items")
      items.push_back(runtime.tuple({key, value}));
    else
      items.push_back(what == "keys" ? key : value);
  }
  const char* name = what == "items" ? "dict_items" : what == "keys" ? "dict_keys" : "dict_values";
  return Value::object(Kind::View, std::make_shared<View>(View{name, std::move(items)}));
}

Value from_keys(Runtime& runtime, Arguments arguments) {
  const Bound bound("fromkeys", std::move(arguments), {"iterable", "value"}, 1);
  auto dict = std::make_shared<Dict>();
  for (const Value& key : runtime.elements(bound[0])) {
    runtime.allocate(3 * sizeof(Value));
    dict->set(key, bound.get(1));
  }
  return Value::dict(std::move(dict));
}

std::optional<Value> dict_method(const Value& self, const std::string& name) {
  if (name == "keys" || name == "values" || name == "items") {
    return callable(name, [self, name](Runtime& runtime, Arguments arguments) {
      Bound(name, std::move(arguments), {});
      return dict_view(runtime, self.as_dict(), name);
    });
  }
  if (name == "get") {
    return callable(name, [self](Runtime& runtime, Arguments arguments) {
      const Bound bound("get", std::move(arguments), {"key", "default"}, 1);
      require_hashable(bound[0]);
      runtime.charge(bound[0]);
      const Value* found = self.as_dict().find(bound[0]);
      return found ? *found : bound.get(1);
    });
  }
  if (name == "copy") return callable(name, [self](Runtime&, Arguments) { return self; });
  if (name == "fromkeys") return callable(name, from_keys);
  return std::nullopt;
}

std::optional<Value> sequence_method(const Value& self, const std::string& name) {
  if (name == "index") {
    return callable(name, [self](Runtime& runtime, Arguments arguments) {
      const Bound bound("index", std::move(arguments), {"value", "start", "stop"}, 1);
      const auto size = static_cast<std::int64_t>(self.items().size());
      const auto position = [&](std::int64_t i) { return i < 0 ? std::max<std::int64_t>(i + size, 0) : i; };
      const std::int64_t stop = std::min(position(bound.integer(2, size)), size);
      for (std::int64_t i = position(bound.integer(1, 0)); i < stop; ++i) {
        runtime.charge(bound[0]);
        if (equal(self.items()[static_cast<std::size_t>(i)], bound[0])) return Value::integer(i);
      }
      fail("ValueError", fmt::format("{} is not in list", repr(bound[0], 1000)));
    });
  }
  if (name == "count") {
    return callable(name, [self](Runtime& runtime, Arguments arguments) {
      const Bound bound("count", std::move(arguments), {"value"}, 1);
      std::int64_t count = 0;
      for (const Value& item : self.items()) {
        runtime.charge(bound[0]);
        count += equal(item, bound[0]);
      }
      return Value::integer(count);
    });
  }
  if (name == "copy" && self.is(Kind::List))
    return callable(name, [self](Runtime&, Arguments) { return self; });
  return std::nullopt;
}

std::optional<Value> number_method(const Value& self, const std::string& name) {
  if (self.is_integral()) {
    if (name == "real" || name == "numerator") return Value::integer(self.as_integer());
    if (name == "imag") return Value::integer(0);
    if (name == "denominator") return Value::integer(1);
    if (name == "bit_length") {
      return callable(name, [self](Runtime&, Arguments) {
        std::int64_t bits = 0;
        for (auto n = static_cast<std::uint64_t>(self.as_integer() < 0 ? -(self.as_integer() + 1)
                                                                       : self.as_integer()) +
                      (self.as_integer() < 0 ? 1 : 0);
             n > 0; n >>= 1)
          ++bits;
        return Value::integer(bits);
      });
    }
    if (name == "is_integer") return callable(name, [](Runtime&, Arguments) { return Value::boolean(true); });
    return std::nullopt;
  }
  if (name == "real") return self;
  if (name == "imag") return Value::real(0);
  if (name == "is_integer") {
    return callable(name, [self](Runtime&, Arguments) {
      return Value::boolean(std::isfinite(self.as_real()) && self.as_real() == std::floor(self.as_real()));
    });
  }
  return std::nullopt;
}

}  // namespace

std::optional<Value> container_method(const Value& self, const std::string& name) {
  switch (self.kind()) {
    case Kind::Dict:
      return dict_method(self, name);
    case Kind::List:
      return sequence_method(self, name);
    case Kind::Tuple:
      // What groupby gives has names for its two parts.
      if (self.items().size() == 2 && self.items()[1].is(Kind::List)) {
        if (name == "grouper") return self.items()[0];
        if (name == "list") return self.items()[1];
      }
      return sequence_method(self, name);
    case Kind::Bool:
    case Kind::Int:
    case Kind::Float:
      return number_method(self, name);
    case Kind::Range: {
      const Range& range = self.as<Range>();
      if (name == "start") return Value::integer(range.start);
      if (name == "stop") return Value::integer(range.stop);
      if (name == "step") return Value::integer(range.step);
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace candela::jinja
