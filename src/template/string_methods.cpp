#include <algorithm>
#include <fmt/format.h>
#include <unordered_map>

#include "template/library.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

using Method = Value (*)(Runtime&, const Value& self, Arguments);

Value texts(Runtime& runtime, std::vector<std::string> parts, bool tuple = false) {
  std::vector<Value> values;
  values.reserve(parts.size());
  for (std::string& part : parts) values.push_back(runtime.string(std::move(part)));
  return tuple ? runtime.tuple(std::move(values)) : runtime.list(std::move(values));
}

template <std::string (*Map)(std::string_view)>
Value mapped(Runtime& runtime, const Value& self, Arguments arguments) {
  Bound("str method", std::move(arguments), {});
  return runtime.string(Map(self.bytes()), self.text().markup);
}

/// Whether there are characters and all are of the class.
template <bool (*Class)(char32_t)>
Value all_are(Runtime& runtime, const Value& self, Arguments arguments) {
  Bound("str method", std::move(arguments), {});
  runtime.charge(self);
  const std::string& text = self.bytes();
  for (std::size_t i = 0; i < text.size();)
    if (!Class(next_code_point(text, i))) return Value::boolean(false);
  return Value::boolean(!text.empty());
}

bool is_alnum(char32_t c) {
  return is_alpha(c) || is_numeric(c) || is_decimal(c) || is_digit(c);
}

/// Whether there is a cased character, and none of the other case.
template <bool (*Wanted)(char32_t), bool (*Other)(char32_t)>
Value cased(Runtime& runtime, const Value& self, Arguments arguments) {
  Bound("str method", std::move(arguments), {});
  runtime.charge(self);
  const std::string& text = self.bytes();
  bool any = false;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (Other(c) || is_title(c)) return Value::boolean(false);
    any = any || Wanted(c);
  }
  return Value::boolean(any);
}

Value is_title_case(Runtime& runtime, const Value& self, Arguments arguments) {
  Bound("istitle", std::move(arguments), {});
  runtime.charge(self);
  const std::string& text = self.bytes();
  bool after_cased = false, any = false;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    const bool high = is_upper(c) || is_title(c);
    if ((high && after_cased) || (is_lower(c) && !after_cased)) return Value::boolean(false);
    after_cased = high || is_lower(c);
    any = any || after_cased;
  }
  return Value::boolean(any);
}

template <Side side>
Value stripped(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("strip", std::move(arguments), {"chars"});
  runtime.charge(self);
  if (!bound.some(0)) return runtime.string(std::string(strip(self.bytes(), side)), self.text().markup);
  const std::string_view characters = bound.text(0);
  runtime.charge(characters.size());
  return runtime.string(std::string(strip(self.bytes(), side, &characters)), self.text().markup);
}

template <bool FromRight>
Value splitted(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("split", std::move(arguments), {"sep", "maxsplit"});
  const std::int64_t limit = bound.integer(1, -1);
  runtime.charge(self);
  if (!bound.some(0)) return texts(runtime, split(self.bytes(), limit, FromRight));
  if (bound.text(0).empty()) fail("ValueError", "empty separator");
  return texts(runtime, split(self.bytes(), bound.text(0), limit, FromRight));
}

template <bool FromRight>
Value partitioned(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("partition", std::move(arguments), {"sep"}, 1);
  const std::string &text = self.bytes(), &separator = bound.text(0);
  if (separator.empty()) fail("ValueError", "empty separator");
  runtime.charge(self);
  const std::size_t at = FromRight ? text.rfind(separator) : text.find(separator);
  if (at == std::string::npos) {
    return FromRight ? texts(runtime, {"", "", text}, true) : texts(runtime, {text, "", ""}, true);
  }
  return texts(runtime, {text.substr(0, at), separator, text.substr(at + separator.size())}, true);
}

/// The part of `self` that optional start and end positions leave, with its place in bytes. Nothing: start is
/// beyond.
std::optional<std::pair<std::string_view, std::size_t>> window(const Value& self, const Bound& bound) {
  const auto length = static_cast<std::int64_t>(self.text().length);
  const auto position = [&](std::size_t i, std::int64_t otherwise) {
    if (!bound.some(i)) return otherwise;
    const std::int64_t value = index_of(bound[i]);
    return value < 0 ? std::max<std::int64_t>(value + length, 0) : value;
  };
  const std::int64_t start = position(1, 0), end = std::min(position(2, length), length);
  if (start > end) return std::nullopt;
  const std::size_t begin = byte_offset(self.bytes(), static_cast<std::size_t>(start));
  const std::size_t stop = byte_offset(self.bytes(), static_cast<std::size_t>(end));
  return std::pair(std::string_view(self.bytes()).substr(begin, stop - begin), begin);
}

template <bool FromRight, bool Required>
Value found(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("find", std::move(arguments), {"sub", "start", "end"}, 1);
  runtime.charge(self);
  if (const auto part = window(self, bound)) {
    const std::size_t at = FromRight ? part->first.rfind(bound.text(0)) : part->first.find(bound.text(0));
    if (at != std::string_view::npos) {
      const std::string_view before = std::string_view(self.bytes()).substr(0, part->second + at);
      return Value::integer(static_cast<std::int64_t>(code_points(before)));
    }
  }
  if (Required) fail("ValueError", "substring not found");
  return Value::integer(-1);
}

Value counted(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("count", std::move(arguments), {"sub", "start", "end"}, 1);
  runtime.charge(self);
  const std::string& sub = bound.text(0);
  const auto part = window(self, bound);
  if (!part) return Value::integer(0);
  if (sub.empty()) return Value::integer(static_cast<std::int64_t>(code_points(part->first)) + 1);
  std::int64_t count = 0;
  for (std::size_t at = 0; (at = part->first.find(sub, at)) != std::string_view::npos; at += sub.size())
    ++count;
  return Value::integer(count);
}

template <bool AtEnd>
Value begins(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound(AtEnd ? "endswith" : "startswith", std::move(arguments), {"affix", "start", "end"}, 1);
  const auto part = window(self, bound);
  const auto matches = [&](const Value& affix) {
    runtime.charge(affix);
    if (affix.is_undefined()) fail_undefined(affix);
    if (!affix.is_string()) {
      fail("TypeError", fmt::format("{} first arg must be str or a tuple of str, not {}",
                                    AtEnd ? "endswith" : "startswith", type_name(affix)));
    }
    return part && (AtEnd ? part->first.ends_with(affix.bytes()) : part->first.starts_with(affix.bytes()));
  };
  if (!bound[0].is(Kind::Tuple)) return Value::boolean(matches(bound[0]));
  for (const Value& affix : bound[0].items())
    if (matches(affix)) return Value::boolean(true);
  return Value::boolean(false);
}

Value replaced(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("replace", std::move(arguments), {"old", "new", "count"}, 2);
  runtime.charge(self);
  return runtime.string(
      replace(self.bytes(), bound.text(0), bound.text(1), bound.integer(2, -1), runtime.limits().max_bytes),
      self.text().markup);
}

Value joined(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("join", std::move(arguments), {"iterable"}, 1);
  std::string out;
  std::size_t i = 0;
  for (const Value& item : runtime.elements(bound[0])) {
    if (!item.is_string())
      fail("TypeError", fmt::format("sequence item {}: expected str instance, {} found", i, type_name(item)));
    if (i++ > 0) out += self.bytes();
    runtime.allocate(item.bytes().size() + self.bytes().size());
    out += item.bytes();
  }
  return runtime.string(std::move(out), self.text().markup);
}

template <char Align>
Value justified(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("justify", std::move(arguments), {"width", "fillchar"}, 1);
  const std::string fill = bound.has(1) ? bound.text(1) : " ";
  if (code_points(fill) != 1) fail("TypeError", "The fill character must be exactly one character long");
  const auto width = static_cast<std::uint64_t>(std::max<std::int64_t>(bound.integer(0, 0), 0));
  if (width > runtime.limits().max_bytes) fail("MemoryError", "the template builds too large a text");
  runtime.allocate(width * fill.size());
  return runtime.string(pad(self.bytes(), width, Align, fill), self.text().markup);
}

Value zero_filled(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("zfill", std::move(arguments), {"width"}, 1);
  const auto width = static_cast<std::uint64_t>(std::max<std::int64_t>(bound.integer(0, 0), 0));
  if (width > runtime.limits().max_bytes) fail("MemoryError", "the template builds too large a text");
  runtime.allocate(width);
  const std::string& text = self.bytes();
  if (!text.empty() && (text[0] == '+' || text[0] == '-'))
    return runtime.string(text[0] +
                          pad(std::string_view(text).substr(1), width > 0 ? width - 1 : 0, '>', "0"));
  return runtime.string(pad(text, width, '>', "0"));
}

template <bool AtEnd>
Value without_affix(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound(AtEnd ? "removesuffix" : "removeprefix", std::move(arguments), {"affix"}, 1);
  const std::string &text = self.bytes(), &affix = bound.text(0);
  if (AtEnd) return text.ends_with(affix) ? runtime.string(text.substr(0, text.size() - affix.size())) : self;
  return text.starts_with(affix) ? runtime.string(text.substr(affix.size())) : self;
}

Value lines(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("splitlines", std::move(arguments), {"keepends"});
  runtime.charge(self);
  return texts(runtime, split_lines(self.bytes(), bound.flag(0, false)));
}

Value tabs_expanded(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("expandtabs", std::move(arguments), {"tabsize"});
  const std::int64_t size = std::min<std::int64_t>(bound.integer(0, 8), 1 << 20);
  std::string out;
  std::int64_t column = 0;
  const std::string& text = self.bytes();
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t start = i;
    const char32_t c = next_code_point(text, i);
    if (c == '\t') {
      const std::int64_t blanks = size > 0 ? size - column % size : 0;
      runtime.allocate(static_cast<std::uint64_t>(blanks));
      out.append(static_cast<std::size_t>(blanks), ' ');
      column += blanks;
    } else {
      out.append(text, start, i - start);
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
  }
  return runtime.string(std::move(out));
}

Value formatted(Runtime& runtime, const Value& self, Arguments arguments) {
  return runtime.string(brace_format(runtime, self.bytes(), arguments), self.text().markup);
}

Value formatted_map(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("format_map", std::move(arguments), {"mapping"}, 1);
  if (!bound[0].is(Kind::Dict)) fail("TypeError", "format_map() argument must be a mapping");
  Arguments named;
  for (const auto& [key, value] : bound[0].as_dict().entries)
    if (key.is_string()) named.named.emplace_back(key.bytes(), value);
  return runtime.string(brace_format(runtime, self.bytes(), named));
}

Value is_identifier_method(Runtime&, const Value& self, Arguments arguments) {
  Bound("isidentifier", std::move(arguments), {});
  return Value::boolean(is_identifier(self.bytes()));
}

Value is_ascii_method(Runtime&, const Value& self, Arguments arguments) {
  Bound("isascii", std::move(arguments), {});
  return Value::boolean(self.text().ascii());
}

Value is_printable_method(Runtime& runtime, const Value& self, Arguments arguments) {
  if (self.bytes().empty()) return Value::boolean(true);
  return all_are<is_printable>(runtime, self, std::move(arguments));
}

/// Full case folding; equal to lower case but for a few characters.
std::string case_folded(std::string_view text) {
  return replace(replace(lower(text), "\xC3\x9F", "ss", -1, text.size() * 2), "\xCF\x82", "\xCF\x83", -1,
                 text.size() * 2);
}

Value translated(Runtime& runtime, const Value& self, Arguments arguments) {
  const Bound bound("translate", std::move(arguments), {"table"}, 1);
  if (!bound[0].is(Kind::Dict)) fail("TypeError", "translate() argument must be a dict of code points");
  std::string out;
  const std::string& text = self.bytes();
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    const Value* to = bound[0].as_dict().find(Value::integer(static_cast<std::int64_t>(c)));
    if (!to)
      append(out, c);
    else if (to->is_string())
      out += to->bytes();
    else if (to->is_integral() && to->as_integer() >= 0 && to->as_integer() <= 0x10FFFF)
      append(out, static_cast<char32_t>(to->as_integer()));
    else if (!to->is_none())
      fail("TypeError", "character mapping must return integer, None or str");
    if (out.size() > runtime.limits().max_bytes) fail("MemoryError", "the template builds too large a text");
  }
  return runtime.string(std::move(out));
}

const std::unordered_map<std::string_view, Method>& methods() {
  static const std::unordered_map<std::string_view, Method> all = {
      {"capitalize", mapped<capitalize>},
      {"casefold", mapped<case_folded>},
      {"center", justified<'c'>},
      {"count", counted},
      {"endswith", begins<true>},
      {"expandtabs", tabs_expanded},
      {"find", found<false, false>},
      {"format", formatted},
      {"format_map", formatted_map},
      {"index", found<false, true>},
      {"isalnum", all_are<is_alnum>},
      {"isalpha", all_are<is_alpha>},
      {"isascii", is_ascii_method},
      {"isdecimal", all_are<is_decimal>},
      {"isdigit", all_are<is_digit>},
      {"isidentifier", is_identifier_method},
      {"islower", cased<is_lower, is_upper>},
      {"isnumeric", all_are<is_numeric>},
      {"isprintable", is_printable_method},
      {"isspace", all_are<is_space>},
      {"istitle", is_title_case},
      {"isupper", cased<is_upper, is_lower>},
      {"join", joined},
      {"ljust", justified<'<'>},
      {"lower", mapped<lower>},
      {"lstrip", stripped<Side::Left>},
      {"partition", partitioned<false>},
      {"removeprefix", without_affix<false>},
      {"removesuffix", without_affix<true>},
      {"replace", replaced},
      {"rfind", found<true, false>},
      {"rindex", found<true, true>},
      {"rjust", justified<'>'>},
      {"rpartition", partitioned<true>},
      {"rsplit", splitted<true>},
      {"rstrip", stripped<Side::Right>},
      {"split", splitted<false>},
      {"splitlines", lines},
      {"startswith", begins<false>},
      {"strip", stripped<Side::Both>},
      {"swapcase", mapped<swap_case>},
      {"title", mapped<title>},
      {"translate", translated},
      {"upper", mapped<upper>},
      {"zfill", zero_filled},
  };
  return all;
}

}  // namespace

std::optional<Value> string_method(const Value& text, const std::string& name) {
  const auto at = methods().find(name);
  if (at == methods().end()) return std::nullopt;
  return callable(name, [text, method = at->second](Runtime& runtime, Arguments arguments) {
    return method(runtime, text, std::move(arguments));
  });
}

}  // namespace candela::jinja
