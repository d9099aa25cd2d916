#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <limits>
#include <unordered_map>

#include "template/library.h"
#include "template/text.h"

/// Filters that work on numbers and on any value.
namespace candela::jinja {
namespace {

Value default_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("default", std::move(arguments), {"default_value", "boolean"});
  const bool taken = value.is_undefined() || (bound.flag(1, false) && !truth(value));
  return taken ? bound.get(0, runtime.string("")) : value;
}

Value absolute(Runtime&, const Value& value, Arguments) {
  require_defined(value);
  if (value.is(Kind::Float)) return Value::real(std::fabs(value.as_real()));
  if (!value.is_integral())
    fail("TypeError", fmt::format("bad operand type for abs(): '{}'", type_name(value)));
  return value.as_integer() < 0 ? negative(value) : Value::integer(value.as_integer());
}

/// Without blanks around, and underscores between digits.
std::optional<std::string> numeral(const Value& value) {
  const std::string_view stripped = strip(value.bytes(), Side::Both);
  std::string out;
  for (std::size_t i = 0; i < stripped.size(); ++i) {
    if (stripped[i] != '_') {
      out += stripped[i];
      continue;
    }
    const auto digit = [&](std::size_t at) {
      return at < stripped.size() && std::isalnum(static_cast<unsigned char>(stripped[at]));
    };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
  }
  return out;
}

std::optional<double> parse_real(const Value& value) {
  const std::optional<std::string> text = numeral(value);
  if (!text || text->empty()) return std::nullopt;
  const std::string word = lower(*text);
  const std::string_view unsigned_word =
      std::string_view(word).substr(word[0] == '+' || word[0] == '-' ? 1 : 0);
  const bool named = unsigned_word == "inf" || unsigned_word == "infinity" || unsigned_word == "nan";
  if (!named && word.find_first_not_of("0123456789.e+-") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  if (end != word.c_str() + word.size()) return std::nullopt;
  return number;
}

/// int(text, base); nothing for what is no integer.
std::optional<std::int64_t> parse_integer(const Value& value, std::int64_t base) {
  const std::optional<std::string> text = numeral(value);
  if (!text || text->empty()) return std::nullopt;
  std::string_view digits = *text;
  const bool minus = digits[0] == '-';
  if (minus || digits[0] == '+') digits = digits.substr(1);
  const auto prefixed = [&](char letter) {
    return digits.size() > 2 && digits[0] == '0' && static_cast<char>(digits[1] | 0x20) == letter;
  };
  for (const auto& [letter, own] : {std::pair('x', 16), {'o', 8}, {'b', 2}}) {
    if (!prefixed(letter) || (base != own && base != 0)) continue;
    base = own;
    digits = digits.substr(2);
    break;
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || digits.empty()) return std::nullopt;
  std::int64_t number = 0;
  for (const char c : digits) {
    const int lowered = c | 0x20;
    const int digit = c >= '0' && c <= '9'               ? c - '0'
                      : lowered >= 'a' && lowered <= 'z' ? lowered - 'a' + 10
                                                         : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(number, base, &number) || __builtin_sub_overflow(number, digit, &number))
      fail("OverflowError", "an integer grows beyond 64 bits");
  }
  if (minus) return number;
  if (number == std::numeric_limits<std::int64_t>::min())
    fail("OverflowError", "an integer grows beyond 64 bits");
  return -number;
}

Value truncated(double value) {
  if (!(std::fabs(value) < 9.2e18)) fail("OverflowError", "cannot convert float to integer");
  return Value::integer(static_cast<std::int64_t>(value));
}

Value int_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("int", std::move(arguments), {"default", "base"});
  const Value otherwise = bound.get(0, Value::integer(0));
  require_defined(value);
  if (value.is_integral()) return Value::integer(value.as_integer());
  if (value.is(Kind::Float)) return std::isnan(value.as_real()) ? otherwise : truncated(value.as_real());
  if (!value.is_string()) return otherwise;
  if (const auto whole = parse_integer(value, bound.integer(1, 10))) return Value::integer(*whole);
  const std::optional<double> real = parse_real(value);
  return real && std::isfinite(*real) ? truncated(*real) : otherwise;
}

Value float_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("float", std::move(arguments), {"default"});
  require_defined(value);
  if (value.is_number()) return Value::real(value.as_real());
  const std::optional<double> real = value.is_string() ? parse_real(value) : std::nullopt;
  return real ? Value::real(*real) : bound.get(0, Value::real(0));
}

/// Python's round: to even, exact in the decimal digits.
double rounded(double value, std::int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits >= 0) {
    char buffer[700];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), value);
    return std::strtod(buffer, nullptr);
  }
  if (digits < -310) return std::copysign(0.0, value);
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

Value round_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("round", std::move(arguments), {"precision", "method"});
  const std::string method = bound.has(1) ? bound.text(1) : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail("FilterArgumentError", "method must be common, ceil or floor");
  require_defined(value);
  if (!value.is_number())
    fail("TypeError", fmt::format("type {} doesn't define __round__ method", type_name(value)));
  const std::int64_t digits = bound.integer(0, 0);
  if (method == "common") {
    if (value.is(Kind::Float)) return Value::real(rounded(value.as_real(), digits));
    if (digits >= 0) return Value::integer(value.as_integer());
    return truncated(rounded(value.as_real(), digits));
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = value.as_real() * scale;
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value filesizeformat(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("filesizeformat", std::move(arguments), {"binary"});
  const bool binary = bound.flag(0, false);
  const std::optional<double> parsed = value.is_string() ? parse_real(value) : std::nullopt;
  if (!value.is_number() && !parsed)
    fail("ValueError", fmt::format("could not convert to float: {}", repr(value, 1000)));
  const double bytes = parsed ? *parsed : value.as_real(), base = binary ? 1024 : 1000;
  if (bytes == 1) return runtime.string("1 Byte");
  if (bytes < base) return runtime.string(fmt::format("{} Bytes", static_cast<std::int64_t>(bytes)));
  constexpr std::string_view kLetters = "kMGTPEZY";
  double unit = base;
  for (std::size_t i = 0; i < kLetters.size(); ++i) {
    unit *= base;
    if (bytes >= unit && i + 1 < kLetters.size()) continue;
    const std::string letter(1, binary && i == 0 ? 'K' : kLetters[i]);
    return runtime.string(fmt::format("{:.1f} {}{}", base * bytes / unit, letter, binary ? "iB" : "B"));
  }
  return runtime.string("");
}

Value attr(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("attr", std::move(arguments), {"name"}, 1);
  const std::string name = runtime.str(bound[0]);
  if (value.is_undefined()) fail_undefined(value);
  // Names that the sandbox keeps are refused as in value.name; keys of a dict are no attributes.
  const Value got = get_attribute(runtime, value, name);
  if (got.is_undefined() || attribute_of(runtime, value, name)) return got;
  return Value::undefined(fmt::format("'{}' has no attribute {}", object_type(value), repr(name)));
}

Value tojson(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("tojson", std::move(arguments), {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (bound.some(1)) {
    style.item_separator = ",";
    if (bound[1].is_string()) {
      style.indent = bound[1].bytes();
    } else {
      const std::int64_t width = std::max<std::int64_t>(index_of(bound[1]), 0);
      runtime.allocate(static_cast<std::uint64_t>(width));
      style.indent = std::string(static_cast<std::size_t>(width), ' ');
    }
  }
  if (bound.some(2)) {
    const std::vector<Value> separators = runtime.elements(bound[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
      fail("ValueError", "tojson: separators must be two strings");
    style.item_separator = separators[0].bytes();
    style.key_separator = separators[1].bytes();
  }
  return runtime.string(to_json(runtime, value, style));
}

/// repr with sorted keys, one element a line where it is wider than 80 characters.
void pretty(Runtime& runtime, const Value& value, std::size_t margin, std::size_t after, std::string& out) {
  const std::string flat = [&] {
    if (!value.is(Kind::Dict)) return runtime.repr(value);
    auto sorted = std::make_shared<Dict>();
    std::vector<std::pair<Value, Value>> entries = value.as_dict().entries;
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return a.first.is_string() && b.first.is_string() ? a.first.bytes() < b.first.bytes()
                                                        : KeyLess{}(a.first, b.first);
    });
    for (auto& [key, own] : entries) sorted->set(key, own);
    return runtime.repr(Value::dict(std::move(sorted)));
  }();
  const bool container = value.is(Kind::Dict) || value.is_sequence();
  if (!container || code_points(flat) + margin + after <= 80) {
    out += flat;
    return;
  }
  const Runtime::Deeper deeper(runtime);
  const std::string separator = ",\n" + std::string(margin + 1, ' ');
  bool first = true;
  if (value.is(Kind::Dict)) {
    std::vector<std::pair<Value, Value>> entries = value.as_dict().entries;
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return KeyLess{}(a.first, b.first); });
    out += '{';
    for (const auto& [key, own] : entries) {
      if (!first) out += separator;
      first = false;
      const std::string name = runtime.repr(key);
      out += name + ": ";
      pretty(runtime, own, margin + code_points(name) + 3, 1, out);
    }
    out += '}';
    return;
  }
  const bool is_list = value.is(Kind::List);
  out += is_list ? '[' : '(';
  for (const Value& item : value.items()) {
    if (!first) out += separator;
    first = false;
    pretty(runtime, item, margin + 1, 1, out);
  }
  if (!is_list && value.items().size() == 1) out += ',';
  out += is_list ? ']' : ')';
}

Value pprint(Runtime& runtime, const Value& value, Arguments) {
  std::string out;
  pretty(runtime, value, 0, 0, out);
  return runtime.string(std::move(out));
}

}  // namespace

const std::vector<Named<Filter>>& value_filters() {
  static const std::vector<Named<Filter>> all = {
      {"abs", absolute},
      {"attr", attr},
      {"d", default_filter},
      {"default", default_filter},
      {"filesizeformat", filesizeformat},
      {"float", float_filter},
      {"int", int_filter},
      {"pprint", pprint},
      {"round", round_filter},
      {"tojson", tojson},
  };
  return all;
}

Filter find_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> all = [] {
    std::unordered_map<std::string_view, Filter> map;
    for (const auto* group : {&text_filters(), &sequence_filters(), &value_filters()})
      for (const Named<Filter>& filter : *group) map.emplace(filter.name, filter.function);
    return map;
  }();
  const auto at = all.find(name);
  return at == all.end() ? nullptr : at->second;
}

}  // namespace candela::jinja
