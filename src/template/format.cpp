#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fmt/format.h>

#include "template/runtime.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

constexpr std::int64_t kMaxPrecision = 100'000;

/// A decimal number at `position`, which moves past it; -1 if there is none.
std::int64_t number_at(std::string_view text, std::size_t& position) {
  std::int64_t value = -1;
  while (position < text.size() && text[position] >= '0' && text[position] <= '9') {
    value = std::max<std::int64_t>(value, 0) * 10 + (text[position++] - '0');
    if (value > (std::int64_t{1} << 40)) fail("ValueError", "Too many decimal digits in format string");
  }
  return value;
}

/// The digits of a float without sign, as C prints them for `type` (e f g, upper case too).
std::string real_digits(double value, char type, std::int64_t precision, bool alternate) {
  if (precision > kMaxPrecision) fail("ValueError", "precision too big");
  const bool upper = type >= 'A' && type <= 'Z';
  if (!std::isfinite(value)) {
    const char* text = std::isnan(value) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf");
    return text;
  }
  const std::string pattern = fmt::format("%{}.*{}", alternate ? "#" : "", type);
  std::string text(static_cast<std::size_t>(precision) + 400, '\0');
  const int length =
      std::snprintf(text.data(), text.size(), pattern.c_str(), static_cast<int>(precision), std::fabs(value));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

std::string integer_digits(std::int64_t value, char type) {
  const std::uint64_t magnitude =
      value < 0 ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  switch (type) {
    case 'x':
      return fmt::format("{:x}", magnitude);
    case 'X':
      return fmt::format("{:X}", magnitude);
    case 'o':
      return fmt::format("{:o}", magnitude);
    case 'b':
      return fmt::format("{:b}", magnitude);
    default:
      return fmt::format("{}", magnitude);
  }
}

std::string ascii_repr(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (c < 0x80)
      out += static_cast<char>(c);
    else if (c < 0x100)
      out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
    else if (c < 0x10000)
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    else
      out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
  }
  return out;
}

// ---- The % operator.

struct Conversion {
  bool alternate = false, zero = false, left = false, space = false, plus = false;
  std::int64_t width = -1, precision = -1;
  char type = 0;
};

class PercentFormat {
 public:
  PercentFormat(Runtime& runtime, std::string_view text, const Value& values)
      : runtime_(runtime), text_(text), values_(values) {}

  std::string run() {
    std::string out;
    while (position_ < text_.size()) {
      const std::size_t percent = std::min(text_.find('%', position_), text_.size());
      out += text_.substr(position_, percent - position_);
      position_ = percent;
      if (position_ >= text_.size()) break;
      ++position_;
      const std::string part = conversion();
      runtime_.allocate(part.size());
      out += part;
    }
    const bool mapping = values_.is(Kind::Dict) || values_.is(Kind::List);
    const std::size_t given = values_.is(Kind::Tuple) ? values_.items().size() : 1;
    if (next_ < given && !mapping) fail("TypeError", "not all arguments converted during string formatting");
    return out;
  }

 private:
  char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }

  const Value& argument() {
    if (keyed_) return *keyed_;
    if (values_.is(Kind::Tuple)) {
      if (next_ >= values_.items().size()) fail("TypeError", "not enough arguments for format string");
      return values_.items()[next_++];
    }
    if (next_++ > 0) fail("TypeError", "not enough arguments for format string");
    return values_;
  }

  std::string conversion();
  std::string converted(const Conversion& c);
  std::string number(const Conversion& c, std::string digits, bool negative, std::string prefix) const;

  Runtime& runtime_;
  std::string_view text_;
  const Value& values_;
  std::size_t position_ = 0, next_ = 0;
  const Value* keyed_ = nullptr;
};

std::string PercentFormat::conversion() {
  keyed_ = nullptr;
  if (peek() == '(') {
    const std::size_t close = text_.find(')', position_);
    if (close == std::string_view::npos) fail("ValueError", "incomplete format key");
    if (!values_.is(Kind::Dict)) fail("TypeError", "format requires a mapping");
    const std::string_view key = text_.substr(position_ + 1, close - position_ - 1);
    keyed_ = values_.as_dict().find(key);
    if (!keyed_) fail("KeyError", repr(key));
    position_ = close + 1;
  }
  Conversion c;
  for (;; ++position_) {
    if (peek() == '#')
      c.alternate = true;
    else if (peek() == '0')
      c.zero = true;
    else if (peek() == '-')
      c.left = true;
    else if (peek() == ' ')
      c.space = true;
    else if (peek() == '+')
      c.plus = true;
    else
      break;
  }
  const auto size = [&]() -> std::int64_t {
    if (peek() != '*') return number_at(text_, position_);
    ++position_;
    return index_of(argument());
  };
  c.width = size();
  if (c.width < -1) {
    c.left = true;
    c.width = -c.width;
  }
  if (peek() == '.') {
    ++position_;
    c.precision = std::max<std::int64_t>(size(), 0);
  }
  if (peek() == 'h' || peek() == 'l' || peek() == 'L') ++position_;
  if (position_ >= text_.size()) fail("ValueError", "incomplete format");
  c.type = text_[position_++];
  if (c.type == '%') return "%";
  const std::string text = converted(c);
  if (c.width <= 0) return text;
  runtime_.allocate(static_cast<std::uint64_t>(c.width));
  return pad(text, static_cast<std::size_t>(c.width), c.left ? '<' : '>');
}

std::string PercentFormat::number(const Conversion& c, std::string digits, bool negative,
                                  std::string prefix) const {
  const std::string sign = negative ? "-" : c.plus ? "+" : c.space ? " " : "";
  if (c.zero && !c.left && c.width > 0) {
    const std::size_t taken = sign.size() + prefix.size() + digits.size();
    runtime_.allocate(static_cast<std::uint64_t>(c.width));
    if (taken < static_cast<std::size_t>(c.width))
      digits.insert(0, static_cast<std::size_t>(c.width) - taken, '0');
  }
  return sign + prefix + digits;
}

std::string PercentFormat::converted(const Conversion& c) {
  const Value value = argument();
  const auto cut = [&](std::string text) {
    if (c.precision < 0) return text;
    text.resize(byte_offset(text, static_cast<std::size_t>(c.precision)));
    return text;
  };
  switch (c.type) {
    case 's':
      return cut(runtime_.str(value));
    case 'r':
      return cut(runtime_.repr(value));
    case 'a':
      return cut(ascii_repr(runtime_.repr(value)));
    case 'c': {
      if (value.is_string() && value.text().length == 1) return value.bytes();
      if (!value.is_integral() || value.as_integer() < 0 || value.as_integer() > 0x10FFFF)
        fail("TypeError", "%c requires int or char");
      std::string text;
      append(text, static_cast<char32_t>(value.as_integer()));
      return text;
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const bool decimal = c.type == 'd' || c.type == 'i' || c.type == 'u';
      if (!value.is_integral() && !(decimal && value.is(Kind::Float))) {
        fail("TypeError", fmt::format("%{} format: {} is required, not {}", c.type,
                                      decimal ? "a real number" : "an integer", type_name(value)));
      }
      if (value.is(Kind::Float) && !(std::fabs(value.as_real()) < 9.2e18))
        fail("OverflowError", "cannot convert float to integer");
      const std::int64_t whole =
          value.is(Kind::Float) ? static_cast<std::int64_t>(value.as_real()) : value.as_integer();
      std::string digits = integer_digits(whole, decimal ? 'd' : c.type);
      if (c.precision > static_cast<std::int64_t>(digits.size())) {
        if (c.precision > kMaxPrecision) fail("ValueError", "precision too big");
        digits.insert(0, static_cast<std::size_t>(c.precision) - digits.size(), '0');
      }
      std::string prefix;
      if (c.alternate && !decimal) prefix = std::string("0") + c.type;
      return number(c, std::move(digits), whole < 0, std::move(prefix));
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      if (!value.is_number()) fail("TypeError", fmt::format("must be real number, not {}", type_name(value)));
      const double real = value.as_real();
      const std::int64_t precision = c.precision < 0 ? 6 : c.precision;
      return number(c, real_digits(real, c.type, precision, c.alternate),
                    std::signbit(real) && !std::isnan(real), "");
    }
    default:
      fail("ValueError", fmt::format("unsupported format character '{}' (0x{:x})", c.type,
                                     static_cast<unsigned char>(c.type)));
  }
}

// ---- Format specifications.

struct Specification {
  std::string fill = " ";
  char align = 0, sign = '-', grouping = 0, type = 0;
  bool alternate = false, zero = false;
  std::int64_t width = 0, precision = -1;
};

Specification specification_of(std::string_view text) {
  Specification s;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  std::size_t i = 0;
  if (!text.empty()) {
    std::size_t after = 0;
    next_code_point(text, after);
    if (after < text.size() && is_align(text[after])) {
      s.fill = text.substr(0, after);
      s.align = text[after];
      i = after + 1;
    } else if (is_align(text[0])) {
      s.align = text[0];
      i = 1;
    }
  }
  const auto peek = [&] { return i < text.size() ? text[i] : '\0'; };
  if (peek() == '+' || peek() == '-' || peek() == ' ') s.sign = text[i++];
  if (peek() == 'z') ++i;
  if (peek() == '#') s.alternate = text[i++] == '#';
  if (peek() == '0') {
    s.zero = true;
    ++i;
    if (s.align == 0) {
      s.fill = "0";
      s.align = '=';
    }
  }
  s.width = std::max<std::int64_t>(number_at(text, i), 0);
  if (peek() == ',' || peek() == '_') s.grouping = text[i++];
  if (peek() == '.') {
    ++i;
    s.precision = number_at(text, i);
    if (s.precision < 0) fail("ValueError", "Format specifier missing precision");
  }
  if (i < text.size()) s.type = text[i++];
  if (i != text.size()) fail("ValueError", "Invalid format specifier");
  return s;
}

/// `digits` with a separator between groups of `size`, from the right.
std::string grouped(const std::string& digits, char separator, std::size_t size) {
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string filled(Runtime& runtime, const Specification& s, const std::string& sign, std::string body,
                   char otherwise) {
  const char align = s.align ? s.align : otherwise;
  runtime.allocate(static_cast<std::uint64_t>(s.width) * s.fill.size());
  if (align != '=') return pad(sign + body, static_cast<std::size_t>(s.width), align, s.fill);
  const std::size_t width = static_cast<std::size_t>(s.width);
  return sign + pad(body, width > sign.size() ? width - sign.size() : 0, '>', s.fill);
}

std::string format_integer(Runtime& runtime, std::int64_t value, const Specification& s) {
  if (s.precision >= 0) fail("ValueError", "Precision not allowed in integer format specifier");
  if (s.type == 'c') {
    if (value < 0 || value > 0x10FFFF) fail("OverflowError", "%c arg not in range(0x110000)");
    std::string text;
    append(text, static_cast<char32_t>(value));
    return filled(runtime, s, "", text, '<');
  }
  std::string digits = integer_digits(value, s.type ? s.type : 'd');
  if (s.grouping)
    digits =
        grouped(digits, s.grouping, s.type == 'x' || s.type == 'X' || s.type == 'o' || s.type == 'b' ? 4 : 3);
  std::string sign = value < 0 ? "-" : s.sign == '-' ? "" : std::string(1, s.sign);
  if (s.alternate && s.type && s.type != 'd' && s.type != 'n') sign += std::string("0") + s.type;
  return filled(runtime, s, sign, digits, '>');
}

std::string format_real(Runtime& runtime, double value, const Specification& s) {
  std::string digits;
  switch (s.type) {
    case 0:
      if (s.precision < 0) {
        digits = repr(std::fabs(value));
        break;
      }
      digits = real_digits(value, 'g', std::max<std::int64_t>(s.precision, 1), s.alternate);
      // Unlike `g`: at least one digit after the point.
      if (std::isfinite(value) && digits.find_first_of(".e") == std::string::npos) digits += ".0";
      break;
    case 'n':
      digits = real_digits(value, 'g', s.precision < 0 ? 6 : s.precision, s.alternate);
      break;
    case '%':
      digits = real_digits(value * 100, 'f', s.precision < 0 ? 6 : s.precision, s.alternate) + "%";
      break;
    default:
      digits = real_digits(value, s.type, s.precision < 0 ? 6 : s.precision, s.alternate);
  }
  if (s.grouping && std::isfinite(value)) {
    const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = grouped(digits.substr(0, whole), s.grouping, 3) + digits.substr(whole);
  }
  const bool negative = std::signbit(value) && !std::isnan(value);
  return filled(runtime, s, negative ? "-" : s.sign == '-' ? "" : std::string(1, s.sign), digits, '>');
}

// ---- str.format.

class BraceFormat {
 public:
  BraceFormat(Runtime& runtime, const Arguments& arguments) : runtime_(runtime), arguments_(arguments) {}

  std::string run(std::string_view text, int depth) {
    if (depth > 2) fail("ValueError", "Max string recursion exceeded");
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      const char c = text[i];
      if (c != '{' && c != '}') {
        out += c;
        ++i;
      } else if (i + 1 < text.size() && text[i + 1] == c) {
        out += c;
        i += 2;
      } else if (c == '}') {
        fail("ValueError", "Single '}' encountered in format string");
      } else {
        std::size_t close = i + 1;
        for (int open = 1; close < text.size(); ++close) {
          if (text[close] == '{') ++open;
          if (text[close] == '}' && --open == 0) break;
        }
        if (close >= text.size()) fail("ValueError", "expected '}' before end of string");
        const std::string part = field(text.substr(i + 1, close - i - 1), depth);
        runtime_.allocate(part.size());
        out += part;
        i = close + 1;
      }
    }
    return out;
  }

 private:
  std::string field(std::string_view text, int depth) {
    std::string_view specification;
    char conversion = 0;
    std::size_t end = text.find_first_of("!:[");
    while (end != std::string_view::npos && text[end] == '[') {
      end = text.find(']', end);
      if (end != std::string_view::npos) end = text.find_first_of("!:[", end);
    }
    const std::string_view name = text.substr(0, end);
    if (end != std::string_view::npos && text[end] == '!') {
      if (end + 1 >= text.size()) fail("ValueError", "end of string while looking for conversion specifier");
      conversion = text[end + 1];
      end = end + 2 < text.size() ? end + 2 : std::string_view::npos;
      if (end != std::string_view::npos && text[end] != ':')
        fail("ValueError", "expected ':' after conversion specifier");
    }
    if (end != std::string_view::npos) specification = text.substr(end + 1);
    Value value = lookup(name);
    if (conversion == 's')
      value = runtime_.string(runtime_.str(value));
    else if (conversion == 'r')
      value = runtime_.string(runtime_.repr(value));
    else if (conversion == 'a')
      value = runtime_.string(ascii_repr(runtime_.repr(value)));
    else if (conversion != 0)
      fail("ValueError", fmt::format("Unknown conversion specifier '{}'", conversion));
    const std::string own = run(specification, depth + 1);
    return format_value(runtime_, value, own);
  }

  Value lookup(std::string_view name) {
    const std::size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = first(name.substr(0, end));
    for (std::size_t i = end; i < name.size();) {
      if (name[i] == '.') {
        const std::size_t stop = std::min(name.find_first_of(".[", i + 1), name.size());
        value = get_attribute(runtime_, value, std::string(name.substr(i + 1, stop - i - 1)));
        i = stop;
      } else {
        const std::size_t stop = name.find(']', i);
        if (name[i] != '[' || stop == std::string_view::npos)
          fail("ValueError", "Missing ']' in format string");
        const std::string_view key = name.substr(i + 1, stop - i - 1);
        std::int64_t index = 0;
        const auto result = std::from_chars(key.data(), key.data() + key.size(), index);
        const bool numeric =
            !key.empty() && result.ec == std::errc() && result.ptr == key.data() + key.size();
        value =
            get_item(runtime_, value, numeric ? Value::integer(index) : runtime_.string(std::string(key)));
        i = stop + 1;
      }
    }
    return value;
  }

  Value first(std::string_view name) {
    std::size_t index = next_;
    const bool numbered = !name.empty() && name[0] >= '0' && name[0] <= '9';
    if ((name.empty() && manual_) || (numbered && next_ > 0))
      fail("ValueError", "cannot mix manual field specification and automatic field numbering");
    manual_ = manual_ || numbered;
    if (name.empty()) {
      ++next_;
    } else if (std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      std::size_t position = 0;
      index = static_cast<std::size_t>(number_at(name, position));
    } else {
      for (const auto& [own, value] : arguments_.named)
        if (own == name) return value;
      fail("KeyError", repr(name));
    }
    if (index >= arguments_.values.size())
      fail("IndexError", fmt::format("Replacement index {} out of range for positional args tuple", index));
    return arguments_.values[index];
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  std::size_t next_ = 0;
  bool manual_ = false;
};

}  // namespace

std::string percent_format(Runtime& runtime, std::string_view text, const Value& values) {
  runtime.allocate(text.size());
  return PercentFormat(runtime, text, values).run();
}

std::string brace_format(Runtime& runtime, std::string_view text, const Arguments& arguments) {
  runtime.allocate(text.size());
  return BraceFormat(runtime, arguments).run(text, 0);
}

std::string format_value(Runtime& runtime, const Value& value, std::string_view specification) {
  if (specification.empty()) return runtime.str(value);
  const Specification s = specification_of(specification);
  constexpr std::string_view kReal = "eEfFgG%n", kInteger = "bcdoxXn";
  if (value.is_string()) {
    if (s.type != 0 && s.type != 's')
      fail("ValueError", fmt::format("Unknown format code '{}' for object of type 'str'", s.type));
    if (s.align == '=' && !s.zero) fail("ValueError", "'=' alignment not allowed in string format specifier");
    Specification own = s;
    if (s.zero && s.align == '=') own.align = '<';
    std::string text = value.bytes();
    if (s.precision >= 0) text.resize(byte_offset(text, static_cast<std::size_t>(s.precision)));
    return filled(runtime, own, "", text, '<');
  }
  if (value.is_integral() && (s.type == 0 || kInteger.find(s.type) != std::string_view::npos))
    return format_integer(runtime, value.as_integer(), s);
  if (value.is_number() && (s.type == 0 || kReal.find(s.type) != std::string_view::npos))
    return format_real(runtime, value.as_real(), s);
  if (value.is_number())
    fail("ValueError",
         fmt::format("Unknown format code '{}' for object of type '{}'", s.type, type_name(value)));
  fail("TypeError", fmt::format("unsupported format string passed to {}.__format__", type_name(value)));
}

}  // namespace candela::jinja
