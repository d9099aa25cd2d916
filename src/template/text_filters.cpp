#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "template/library.h"
#include "template/text.h"

/// Filters that work on text.
namespace candela::jinja {
namespace {

/// soft_str: text stays as it is, markup included.
Value soft(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : runtime.string(runtime.str(value));
}

Value method(Runtime& runtime, const Value& value, const char* name, Arguments arguments = {}) {
  return runtime.call(*string_method(soft(runtime, value), name), std::move(arguments));
}

Value upper_filter(Runtime& r, const Value& v, Arguments) {
  return method(r, v, "upper");
}
Value lower_filter(Runtime& r, const Value& v, Arguments) {
  return method(r, v, "lower");
}
Value capitalize_filter(Runtime& r, const Value& v, Arguments) {
  return method(r, v, "capitalize");
}

Value trim(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("trim", std::move(arguments), {"chars"});
  return method(runtime, value, "strip", {{bound.get(0)}, {}});
}

Value center(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("center", std::move(arguments), {"width"});
  return method(runtime, value, "center", {{bound.get(0, Value::integer(80))}, {}});
}

/// Words after blanks, hyphens and opening brackets begin with a capital.
Value title_filter(Runtime& runtime, const Value& value, Arguments) {
  const Value text = soft(runtime, value);
  std::string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    std::size_t after = 0;
    next_code_point(word, after);
    out += upper(std::string_view(word).substr(0, after)) + lower(std::string_view(word).substr(after));
    word.clear();
  };
  const std::string& bytes = text.bytes();
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t start = i;
    const char32_t c = next_code_point(bytes, i);
    if (is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') {
      flush();
      out.append(bytes, start, i - start);
    } else {
      word.append(bytes, start, i - start);
    }
  }
  flush();
  return runtime.string(std::move(out), text.text().markup);
}

Value replace_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("replace", std::move(arguments), {"old", "new", "count"}, 2);
  const std::string text = runtime.str(value);
  return runtime.string(replace(text, runtime.str(bound[0]), runtime.str(bound[1]),
                                bound.some(2) ? bound.integer(2, -1) : -1, runtime.limits().max_bytes));
}

Value indent(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("indent", std::move(arguments), {"width", "first", "blank"});
  require_defined(value);
  if (!value.is_string()) fail("TypeError", fmt::format("indent: expected str, got {}", type_name(value)));
  std::string margin(4, ' ');
  if (bound.has(0)) {
    if (bound[0].is_string()) {
      margin = bound[0].bytes();
    } else {
      const std::int64_t width = std::max<std::int64_t>(index_of(bound[0]), 0);
      runtime.allocate(static_cast<std::uint64_t>(width));
      margin.assign(static_cast<std::size_t>(width), ' ');
    }
  }
  const bool blank = bound.flag(2, false);
  const std::vector<std::string> lines = split_lines(value.bytes() + "\n");
  std::string out = bound.flag(1, false) ? margin : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    runtime.allocate(lines[i].size() + margin.size());
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += margin;
    out += lines[i];
  }
  return runtime.string(std::move(out), value.text().markup);
}

Value truncate(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("truncate", std::move(arguments), {"length", "killwords", "end", "leeway"});
  require_defined(value);
  if (!value.is_string())
    fail("TypeError", fmt::format("object of type '{}' has no len()", type_name(value)));
  const std::int64_t length = bound.integer(0, 255), leeway = bound.some(3) ? bound.integer(3, 5) : 5;
  const std::string end = bound.has(2) ? bound.text(2) : "...";
  const auto end_length = static_cast<std::int64_t>(code_points(end));
  if (length < end_length)
    fail("AssertionError", fmt::format("expected length >= {}, got {}", end_length, length));
  if (leeway < 0) fail("AssertionError", fmt::format("expected leeway >= 0, got {}", leeway));
  if (static_cast<std::int64_t>(value.text().length) - leeway <= length) return value;
  std::string cut =
      value.bytes().substr(0, byte_offset(value.bytes(), static_cast<std::size_t>(length - end_length)));
  if (!bound.flag(1, false)) {
    const std::size_t blank = cut.rfind(' ');
    if (blank != std::string::npos) cut.resize(blank);
  }
  return runtime.string(cut + end);
}

/// One paragraph cut into lines of at most `width` characters, as Python's textwrap does with white space
/// kept.
std::vector<std::string> wrapped(std::string_view paragraph, std::size_t width, bool break_words,
                                 bool hyphens) {
  // Chunks: runs of blanks, and words, which end after a hyphen between letters.
  std::vector<std::vector<char32_t>> chunks;
  const std::vector<char32_t> text = decode(paragraph);
  for (std::size_t i = 0; i < text.size();) {
    std::vector<char32_t> chunk;
    const bool blank = is_space(text[i]);
    while (i < text.size() && is_space(text[i]) == blank) {
      chunk.push_back(text[i++]);
      const bool hyphen = !blank && hyphens && chunk.back() == '-' && chunk.size() >= 3 &&
                          i + 1 < text.size() && is_alpha(text[i]) && is_alpha(chunk[chunk.size() - 2]) &&
                          is_alpha(text[i + 1]);
      if (hyphen) break;
    }
    chunks.push_back(std::move(chunk));
  }
  std::reverse(chunks.begin(), chunks.end());
  std::vector<std::string> lines;
  while (!chunks.empty()) {
    if (!lines.empty() && is_space(chunks.back()[0])) {
      chunks.pop_back();
      if (chunks.empty()) break;
    }
    std::vector<std::vector<char32_t>> line;
    std::size_t length = 0;
    while (!chunks.empty() && length + chunks.back().size() <= width) {
      length += chunks.back().size();
      line.push_back(std::move(chunks.back()));
      chunks.pop_back();
    }
    if (!chunks.empty() && chunks.back().size() > width) {
      std::vector<char32_t>& long_word = chunks.back();
      const std::size_t space = width > length ? width - length : (line.empty() ? 1 : 0);
      if (break_words && space > 0) {
        const auto cut = long_word.begin() + static_cast<std::ptrdiff_t>(space);
        line.emplace_back(long_word.begin(), cut);
        long_word.erase(long_word.begin(), cut);
      } else if (line.empty()) {
        line.push_back(std::move(long_word));
        chunks.pop_back();
      }
    }
    if (!line.empty() && is_space(line.back()[0])) line.pop_back();
    if (line.empty()) continue;
    std::string joined;
    for (const auto& chunk : line) joined += encode(chunk);
    lines.push_back(std::move(joined));
  }
  return lines;
}

Value wordwrap(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("wordwrap", std::move(arguments),
                    {"width", "break_long_words", "wrapstring", "break_on_hyphens"});
  require_defined(value);
  if (!value.is_string()) fail("TypeError", fmt::format("wordwrap: expected str, got {}", type_name(value)));
  const std::int64_t width = bound.integer(0, 79);
  if (width <= 0) fail("ValueError", fmt::format("invalid width {} (must be > 0)", width));
  const std::string separator = bound.some(2) ? bound.text(2) : "\n";
  std::string out;
  bool first = true;
  for (const std::string& line : split_lines(value.bytes())) {
    std::vector<std::string> parts =
        wrapped(line, static_cast<std::size_t>(width), bound.flag(1, true), bound.flag(3, true));
    if (parts.empty()) parts.emplace_back();
    for (const std::string& part : parts) {
      runtime.allocate(8 * (part.size() + separator.size()));
      if (!first) out += separator;
      first = false;
      out += part;
    }
  }
  return runtime.string(std::move(out));
}

Value wordcount(Runtime& runtime, const Value& value, Arguments) {
  const Value text = soft(runtime, value);
  runtime.charge(text);
  std::int64_t count = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.bytes().size();) {
    const char32_t c = next_code_point(text.bytes(), i);
    const bool word = c == '_' || is_alpha(c) || is_numeric(c) || is_decimal(c);
    if (word && !inside) ++count;
    inside = word;
  }
  return Value::integer(count);
}

Value format_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  if (!arguments.values.empty() && !arguments.named.empty())
    fail("FilterArgumentError", "can't handle positional and keyword arguments at the same time");
  const Value text = soft(runtime, value);
  if (arguments.named.empty())
    return runtime.string(percent_format(runtime, text.bytes(), runtime.tuple(std::move(arguments.values))));
  auto dict = std::make_shared<Dict>();
  for (auto& [name, own] : arguments.named) dict->set(runtime.string(name), std::move(own));
  return runtime.string(percent_format(runtime, text.bytes(), Value::dict(std::move(dict))));
}

Value escape(Runtime& runtime, const Value& value, Arguments) {
  if (value.is_string() && value.text().markup) return value;
  return runtime.string(escape_html(runtime.str(value)), true);
}

Value force_escape(Runtime& runtime, const Value& value, Arguments) {
  return runtime.string(escape_html(runtime.str(value)), true);
}

Value safe(Runtime& runtime, const Value& value, Arguments) {
  return runtime.string(runtime.str(value), true);
}
Value string_filter(Runtime& runtime, const Value& value, Arguments) {
  return soft(runtime, value);
}

/// Without tags and comments, blanks joined, the usual entities as characters.
Value striptags(Runtime& runtime, const Value& value, Arguments) {
  std::string text = runtime.str(value);
  const auto without = [&](std::string_view open, std::string_view close) {
    std::string kept;
    std::size_t i = 0;
    while (true) {
      const std::size_t start = text.find(open, i);
      const std::size_t end = start == std::string::npos ? start : text.find(close, start);
      if (end == std::string::npos) break;
      kept.append(text, i, start - i);
      i = end + close.size();
    }
    kept.append(text, i);
    text = std::move(kept);
  };
  without("<!--", "-->");
  without("<", ">");
  std::string out;
  for (const std::string& word : split(text)) out += (out.empty() ? "" : " ") + word;
  const std::size_t room = runtime.limits().max_bytes;
  for (const auto& [entity, character] : {std::pair("&lt;", "<"),
                                          {"&gt;", ">"},
                                          {"&quot;", "\""},
                                          {"&#34;", "\""},
                                          {"&#39;", "'"},
                                          {"&nbsp;", "\xC2\xA0"},
                                          {"&amp;", "&"}})
    out = replace(out, entity, character, -1, room);
  return runtime.string(std::move(out));
}

std::string url_quoted(std::string_view text, bool query) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query);
    if (plain)
      out += c;
    else if (c == ' ' && query)
      out += '+';
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Value urlencode(Runtime& runtime, const Value& value, Arguments) {
  const bool pairs =
      value.is(Kind::Dict) || value.is_sequence() || value.is(Kind::View) || value.is(Kind::Iterator);
  if (!pairs) return runtime.string(url_quoted(runtime.str(value), false));
  const Value entries = value.is(Kind::Dict) ? runtime.call(*container_method(value, "items"), {}) : value;
  std::string out;
  for (const Value& entry : runtime.elements(entries)) {
    const std::vector<Value> parts = runtime.elements(entry);
    if (parts.size() != 2) fail("ValueError", "urlencode: expected pairs");
    const std::string part =
        url_quoted(runtime.str(parts[0]), true) + "=" + url_quoted(runtime.str(parts[1]), true);
    runtime.allocate(part.size());
    out += (out.empty() ? "" : "&") + part;
  }
  return runtime.string(std::move(out));
}

/// Web and mail addresses among the words as links.
Value urlize(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("urlize", std::move(arguments),
                    {"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"});
  std::vector<std::string> rels = bound.some(3) ? split(bound.text(3)) : std::vector<std::string>{};
  if (bound.flag(1, false)) rels.push_back("nofollow");
  rels.push_back("noopener");
  std::sort(rels.begin(), rels.end());
  rels.erase(std::unique(rels.begin(), rels.end()), rels.end());
  std::string attributes = " rel=\"";
  for (std::size_t i = 0; i < rels.size(); ++i) attributes += (i ? " " : "") + escape_html(rels[i]);
  attributes += '"';
  if (bound.some(2)) attributes += " target=\"" + escape_html(bound.text(2)) + "\"";
  const std::string text = escape_html(runtime.str(value));
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && !is_space(static_cast<unsigned char>(text[end]))) ++end;
    std::string word = text.substr(i, end - i), tail;
    while (!word.empty() && std::string_view(".,!?:;)").find(word.back()) != std::string_view::npos) {
      tail.insert(0, 1, word.back());
      word.pop_back();
    }
    const bool web = word.starts_with("http://") || word.starts_with("https://") || word.starts_with("www.");
    if (web) {
      std::string label = word;
      if (bound.some(0) && static_cast<std::int64_t>(code_points(word)) > bound.integer(0, 0)) {
        label.resize(
            byte_offset(word, static_cast<std::size_t>(std::max<std::int64_t>(bound.integer(0, 0), 0))));
        label += "...";
      }
      word = fmt::format("<a href=\"{}{}\"{}>{}</a>", word.starts_with("www.") ? "https://" : "", word,
                         attributes, label);
    }
    runtime.allocate(word.size() + tail.size());
    out += word + tail;
    i = end;
    while (i < text.size() && is_space(static_cast<unsigned char>(text[i]))) out += text[i++];
  }
  return runtime.string(std::move(out));
}

Value xmlattr(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("xmlattr", std::move(arguments), {"autospace"});
  if (!value.is(Kind::Dict))
    fail("TypeError", fmt::format("xmlattr: expected a dict, got {}", type_name(value)));
  std::string out;
  for (const auto& [key, own] : value.as_dict().entries) {
    if (own.is_none() || own.is_undefined()) continue;
    const std::string name = runtime.str(key);
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      fail("ValueError", fmt::format("Invalid character in attribute name: {}", repr(name)));
    const std::string part = fmt::format("{}=\"{}\"", escape_html(name), escape_html(runtime.str(own)));
    runtime.allocate(part.size());
    out += (out.empty() ? "" : " ") + part;
  }
  if (bound.flag(0, true) && !out.empty()) out.insert(0, " ");
  return runtime.string(std::move(out));
}

}  // namespace

const std::vector<Named<Filter>>& text_filters() {
  static const std::vector<Named<Filter>> all = {
      {"capitalize", capitalize_filter},
      {"center", center},
      {"e", escape},
      {"escape", escape},
      {"forceescape", force_escape},
      {"format", format_filter},
      {"indent", indent},
      {"lower", lower_filter},
      {"replace", replace_filter},
      {"safe", safe},
      {"string", string_filter},
      {"striptags", striptags},
      {"title", title_filter},
      {"trim", trim},
      {"truncate", truncate},
      {"upper", upper_filter},
      {"urlencode", urlencode},
      {"urlize", urlize},
      {"wordcount", wordcount},
      {"wordwrap", wordwrap},
      {"xmlattr", xmlattr},
  };
  return all;
}

}  // namespace candela::jinja
