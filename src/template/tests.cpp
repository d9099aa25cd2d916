#include <algorithm>
#include <fmt/format.h>
#include <unordered_map>

#include "template/library.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

void none_more(const char* name, Arguments arguments) {
  Bound(name, std::move(arguments), {});
}

template <const char* Op>
bool compares(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound(Op, std::move(arguments), {"other"}, 1);
  return compare(runtime, Op, value, bound[0]);
}

constexpr char kEqual[] = "==", kUnequal[] = "!=", kLess[] = "<", kLessEqual[] = "<=", kGreater[] = ">",
               kGreaterEqual[] = ">=", kIn[] = "in";

template <Kind kind>
bool is_kind(Runtime&, const Value& value, Arguments arguments) {
  none_more("test", std::move(arguments));
  return value.is(kind);
}

template <bool Wanted>
bool is_bool(Runtime&, const Value& value, Arguments arguments) {
  none_more("test", std::move(arguments));
  return value.is(Kind::Bool) && (value.as_integer() != 0) == Wanted;
}

bool remainder_is(Runtime& runtime, const Value& value, std::int64_t by, std::int64_t remainder) {
  return equal(arithmetic(runtime, "%", value, Value::integer(by)), Value::integer(remainder));
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
    case Kind::String:
    case Kind::List:
    case Kind::Tuple:
    case Kind::Dict:
    case Kind::View:
    case Kind::Range:
    case Kind::Iterator:
    case Kind::Loop:
      return true;
    default:
      return false;
  }
}

bool is_sequence(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
    case Kind::String:
    case Kind::List:
    case Kind::Tuple:
    case Kind::Dict:
    case Kind::Range:
      return true;
    default:
      return false;
  }
}

bool same(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::None:
      return true;
    case Kind::Bool:
    case Kind::Int:
      return a.as_integer() == b.as_integer();
    case Kind::Float:
      return a.as_real() == b.as_real();
    case Kind::String:
      return a.bytes() == b.bytes();
    default:
      return a.identity() == b.identity();
  }
}

bool cased(Runtime& runtime, const Value& value, const char* method) {
  const Value text = value.is_string() ? value : runtime.string(runtime.str(value));
  return truth(runtime.call(*string_method(text, method), {}));
}

const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> all = {
      {"odd", [](Runtime& r, const Value& v, Arguments) { return remainder_is(r, v, 2, 1); }},
      {"even", [](Runtime& r, const Value& v, Arguments) { return remainder_is(r, v, 2, 0); }},
      {"divisibleby",
       [](Runtime& r, const Value& v, Arguments a) {
         const Bound bound("divisibleby", std::move(a), {"num"}, 1);
         return equal(arithmetic(r, "%", v, bound[0]), Value::integer(0));
       }},
      {"defined",
       [](Runtime&, const Value& v, Arguments a) {
         none_more("defined", std::move(a));
         return !v.is_undefined();
       }},
      {"undefined", is_kind<Kind::Undefined>},
      {"filter", [](Runtime&, const Value& v, Arguments) { return v.is_string() && find_filter(v.bytes()); }},
      {"test", [](Runtime&, const Value& v, Arguments) { return v.is_string() && find_test(v.bytes()); }},
      {"none", is_kind<Kind::None>},
      {"boolean", is_kind<Kind::Bool>},
      {"false", is_bool<false>},
      {"true", is_bool<true>},
      {"integer", is_kind<Kind::Int>},
      {"float", is_kind<Kind::Float>},
      {"lower", [](Runtime& r, const Value& v, Arguments) { return cased(r, v, "islower"); }},
      {"upper", [](Runtime& r, const Value& v, Arguments) { return cased(r, v, "isupper"); }},
      {"string", is_kind<Kind::String>},
      {"mapping", is_kind<Kind::Dict>},
      {"number", [](Runtime&, const Value& v, Arguments) { return v.is_number(); }},
      {"sequence", [](Runtime&, const Value& v, Arguments) { return is_sequence(v); }},
      {"iterable", [](Runtime&, const Value& v, Arguments) { return is_iterable(v); }},
      {"callable",
       [](Runtime&, const Value& v, Arguments) {
         return v.is(Kind::Callable) || v.is(Kind::Joiner) || v.is(Kind::Loop) || v.is_undefined();
       }},
      {"sameas",
       [](Runtime&, const Value& v, Arguments a) {
         const Bound bound("sameas", std::move(a), {"other"}, 1);
         return same(v, bound[0]);
       }},
      {"escaped", [](Runtime&, const Value& v, Arguments) { return v.is_string() && v.text().markup; }},
      {"in", compares<kIn>},
      {"==", compares<kEqual>},
      {"eq", compares<kEqual>},
      {"equalto", compares<kEqual>},
      {"!=", compares<kUnequal>},
      {"ne", compares<kUnequal>},
      {">", compares<kGreater>},
      {"gt", compares<kGreater>},
      {"greaterthan", compares<kGreater>},
      {"ge", compares<kGreaterEqual>},
      {">=", compares<kGreaterEqual>},
      {"<", compares<kLess>},
      {"lt", compares<kLess>},
      {"lessthan", compares<kLess>},
      {"<=", compares<kLessEqual>},
      {"le", compares<kLessEqual>},
  };
  return all;
}

}  // namespace

Test find_test(std::string_view name) {
  const auto at = tests().find(name);
  return at == tests().end() ? nullptr : at->second;
}

}  // namespace candela::jinja
