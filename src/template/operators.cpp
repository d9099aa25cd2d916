#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "template/runtime.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

[[noreturn]] void overflow() {
  fail("OverflowError", "an integer grows beyond 64 bits");
}

[[noreturn]] void unsupported(const std::string& op, const Value& a, const Value& b) {
  if (op == "+" && a.is_string())
    fail("TypeError", fmt::format("can only concatenate str (not \"{}\") to str", type_name(b)));
  if (op == "+" && a.is(Kind::List))
    fail("TypeError", fmt::format("can only concatenate list (not \"{}\") to list", type_name(b)));
  fail("TypeError",
       fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", op, type_name(a), type_name(b)));
}

/// Python's int ** int.
Value power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return Value::integer(result);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (a == std::numeric_limits<std::int64_t>::min() && b == -1) overflow();
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

std::int64_t floor_modulo(std::int64_t a, std::int64_t b) {
  if (b == -1) return 0;
  const std::int64_t remainder = a % b;
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double floor_modulo(double a, double b) {
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return remainder == 0 ? std::copysign(0.0, b) : remainder;
}

Value integers(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (op == "+") {
    if (__builtin_add_overflow(a, b, &result)) overflow();
  } else if (op == "-") {
    if (__builtin_sub_overflow(a, b, &result)) overflow();
  } else if (op == "*") {
    if (__builtin_mul_overflow(a, b, &result)) overflow();
  } else if (op == "**") {
    return power(a, b);
  } else {
    if (b == 0)
      fail("ZeroDivisionError", op == "/" ? "division by zero" : "integer division or modulo by zero");
    if (op == "/") return Value::real(static_cast<double>(a) / static_cast<double>(b));
    result = op == "//" ? floor_divide(a, b) : floor_modulo(a, b);
  }
  return Value::integer(result);
}

Value reals(const std::string& op, double a, double b) {
  if (op == "+") return Value::real(a + b);
  if (op == "-") return Value::real(a - b);
  if (op == "*") return Value::real(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    if (a < 0 && b != std::floor(b)) fail("TypeError", "complex numbers are not known here");
    const double result = std::pow(a, b);
    if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
      fail("OverflowError", "numerical result out of range");
    return Value::real(result);
  }
  if (b == 0)
    fail("ZeroDivisionError", op == "/" ? "float division by zero" : "float floor division by zero");
  if (op == "/") return Value::real(a / b);
  if (op == "//") return Value::real(std::floor((a - floor_modulo(a, b)) / b + 0.5));
  return Value::real(floor_modulo(a, b));
}

Value repeated(Runtime& runtime, const Value& value, std::int64_t times) {
  const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(times, 0));
  const std::uint64_t size = value.is_string() ? value.bytes().size() : value.items().size() * sizeof(Value);
  if (size > 0 && count > runtime.limits().max_bytes / size)
    fail("MemoryError", "the template builds too large a value");
  if (value.is_string()) {
    std::string text;
    runtime.allocate(size * count);
    text.reserve(size * count);
    for (std::uint64_t i = 0; i < count && size > 0; ++i) text += value.bytes();
    return runtime.string(std::move(text), value.text().markup);
  }
  std::vector<Value> items;
  runtime.allocate(size * count);
  for (std::uint64_t i = 0; i < count && size > 0; ++i)
    items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is(Kind::Tuple) ? runtime.tuple(std::move(items)) : runtime.list(std::move(items));
}

Value added(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    const bool markup = a.text().markup || b.text().markup;
    const auto part = [&](const Value& side) {
      return markup && !side.text().markup ? escape_html(side.bytes()) : side.bytes();
    };
    return runtime.string(part(a) + part(b), markup);
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    std::vector<Value> items = runtime.elements(a);
    items.insert(items.end(), b.items().begin(), b.items().end());
    return a.is(Kind::Tuple) ? runtime.tuple(std::move(items)) : runtime.list(std::move(items));
  }
  unsupported("+", a, b);
}

}  // namespace

Value arithmetic(Runtime& runtime, const std::string& op, const Value& a, const Value& b) {
  if (op == "%" && a.is_string())
    return runtime.string(percent_format(runtime, a.bytes(), b), a.text().markup);
  require_defined(a);
  require_defined(b);
  if (a.is_integral() && b.is_integral()) return integers(op, a.as_integer(), b.as_integer());
  if (a.is_number() && b.is_number()) return reals(op, a.as_real(), b.as_real());
  if (op == "+") return added(runtime, a, b);
  if (op == "*") {
    if ((a.is_string() || a.is_sequence()) && b.is_integral()) return repeated(runtime, a, b.as_integer());
    if ((b.is_string() || b.is_sequence()) && a.is_integral()) return repeated(runtime, b, a.as_integer());
  }
  // dict | dict is a filter in templates; set operations on views have no use there.
  unsupported(op, a, b);
}

Value negative(const Value& value) {
  require_defined(value);
  if (value.is(Kind::Float)) return Value::real(-value.as_real());
  if (!value.is_integral())
    fail("TypeError", fmt::format("bad operand type for unary -: '{}'", type_name(value)));
  if (value.as_integer() == std::numeric_limits<std::int64_t>::min()) overflow();
  return Value::integer(-value.as_integer());
}

Value positive(const Value& value) {
  require_defined(value);
  if (value.is(Kind::Float)) return value;
  if (!value.is_integral())
    fail("TypeError", fmt::format("bad operand type for unary +: '{}'", type_name(value)));
  return Value::integer(value.as_integer());
}

bool contains(Runtime& runtime, const Value& container, const Value& value) {
  const auto any = [&](const std::vector<Value>& items) {
    return std::any_of(items.begin(), items.end(), [&](const Value& item) {
      runtime.charge(1 + std::min(item.weight(), value.weight()));
      return equal(item, value);
    });
  };
  switch (container.kind()) {
    case Kind::Undefined:
      return false;
    case Kind::String:
      if (!value.is_string()) {
        fail("TypeError",
             fmt::format("'in <string>' requires string as left operand, not {}", type_name(value)));
      }
      runtime.charge(container);
      return container.bytes().find(value.bytes()) != std::string::npos;
    case Kind::Dict:
      require_hashable(value);
      runtime.charge(value);
      return container.as_dict().find(value) != nullptr;
    case Kind::List:
    case Kind::Tuple:
      return any(container.items());
    case Kind::View:
      return any(container.as<View>().items);
    case Kind::Range: {
      if (!value.is_number() || value.as_real() != std::floor(value.as_real())) return false;
      const Range& range = container.as<Range>();
      const double offset = value.as_real() - static_cast<double>(range.start);
      const double position = offset / static_cast<double>(range.step);
      return position == std::floor(position) && position >= 0 &&
             position < static_cast<double>(range.size());
    }
    case Kind::Iterator:
      return any(runtime.elements(container));
    default:
      fail("TypeError", fmt::format("argument of type '{}' is not iterable", type_name(container)));
  }
}

bool compare(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  if (op == "in") return contains(runtime, b, a);
  if (op == "not in") return !contains(runtime, b, a);
  runtime.charge(std::min(a.weight(), b.weight()));
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "<") return less(a, b, "<");
  if (op == ">") return less(b, a, ">");
  const bool unordered =
      a.is_number() && b.is_number() && (std::isnan(a.as_real()) || std::isnan(b.as_real()));
  if (unordered) return false;
  return op == "<=" ? !less(b, a, "<=") : !less(a, b, ">=");
}

}  // namespace candela::jinja
