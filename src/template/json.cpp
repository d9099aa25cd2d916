#include "template/json.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "template/library.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

/// Builds values from the events of nlohmann's parser.
class Builder {
 public:
  using Json = nlohmann::json;

  Value take() { return std::move(root_); }

  bool null() { return add(Value()); }
  bool boolean(bool value) { return add(Value::boolean(value)); }
  bool number_integer(Json::number_integer_t value) { return add(Value::integer(value)); }
  bool number_unsigned(Json::number_unsigned_t value) {
    if (value > static_cast<Json::number_unsigned_t>(std::numeric_limits<std::int64_t>::max()))
      fail("ValueError", fmt::format("an integer must fit 64 bits; got {}", value));
    return add(Value::integer(static_cast<std::int64_t>(value)));
  }
  bool number_float(Json::number_float_t value, const std::string& text) {
    if (text.find_first_of(".eE") == std::string::npos)
      fail("ValueError", fmt::format("an integer must fit 64 bits; got {}", text.substr(0, 40)));
    return add(Value::real(value));
  }
  bool string(std::string& value) { return add(Value::string(std::move(value))); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(true); }
  bool start_array(std::size_t) { return open(false); }
  bool key(std::string& value) {
    open_.back().key = Value::string(std::move(value));
    return true;
  }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) {
    std::string text = error.what();
    const std::size_t colon = text.find(": ");
    if (colon != std::string::npos) text = text.substr(colon + 2);
    fail("ValueError", fmt::format("must be valid JSON; at byte {}: {}", position, text.substr(0, 200)));
  }

 private:
  struct Open {
    std::shared_ptr<Dict> dict;  // null: a list
    std::vector<Value> items;
    Value key;
  };

  bool add(Value value) {
    if (open_.empty())
      root_ = std::move(value);
    else if (open_.back().dict)
      open_.back().dict->set(std::move(open_.back().key), std::move(value));
    else
      open_.back().items.push_back(std::move(value));
    return true;
  }
  bool open(bool object) {
    if (open_.size() >= static_cast<std::size_t>(kMaxDepth))
      fail("ValueError", fmt::format("must nest at most {} levels deep", kMaxDepth));
    open_.push_back({object ? std::make_shared<Dict>() : nullptr, {}, Value()});
    return true;
  }
  bool close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    return add(done.dict ? Value::dict(std::move(done.dict)) : Value::list(std::move(done.items)));
  }

  Value root_;
  std::vector<Open> open_;
};

class Writer {
 public:
  Writer(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void write(const Value& value) {
    switch (value.kind()) {
      case Kind::None:
        return add("null");
      case Kind::Bool:
        return add(value.as_integer() ? "true" : "false");
      case Kind::Int:
        return add(fmt::format("{}", value.as_integer()));
      case Kind::Float:
        return add(real(value.as_real()));
      case Kind::String:
        return quoted(value.bytes());
      case Kind::List:
      case Kind::Tuple:
        return array(value.items());
      case Kind::Dict:
        return object(value.as_dict());
      default:
        fail("TypeError", fmt::format("Object of type {} is not JSON serializable", type_name(value)));
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void add(std::string_view text) {
    runtime_.allocate(text.size());
    out_ += text;
  }
  static std::string real(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return repr(value);
  }

  void quoted(std::string_view text) {
    runtime_.allocate(text.size());
    out_ += '"';
    for (std::size_t i = 0; i < text.size();) {
      const char c = text[i];
      switch (c) {
        case '"':
          out_ += "\\\"";
          break;
        case '\\':
          out_ += "\\\\";
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\r':
          out_ += "\\r";
          break;
        case '\t':
          out_ += "\\t";
          break;
        case '\b':
          out_ += "\\b";
          break;
        case '\f':
          out_ += "\\f";
          break;
        default: {
          const std::size_t start = i;
          const char32_t code = next_code_point(text, i);
          escaped(code, text.substr(start, i - start));
          continue;
        }
      }
      ++i;
    }
    out_ += '"';
  }
  void escaped(char32_t c, std::string_view bytes) {
    const bool plain = c >= 0x20 && (!style_.ascii || c < 0x7F);
    if (plain) {
      out_ += bytes;
    } else if (c < 0x10000) {
      out_ += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    } else {
      const char32_t rest = c - 0x10000;
      out_ += fmt::format("\\u{:04x}\\u{:04x}", static_cast<std::uint32_t>(0xD800 + (rest >> 10)),
                          static_cast<std::uint32_t>(0xDC00 + (rest & 0x3FF)));
    }
  }

  void line_break() {
    if (!style_.indent) return;
    add("\n");
    for (int i = 0; i < level_; ++i) add(*style_.indent);
  }

  void array(const std::vector<Value>& items) {
    if (items.empty()) return add("[]");
    add("[");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) add(style_.item_separator);
      line_break();
      write(items[i]);
    }
    --level_;
    line_break();
    add("]");
  }

  static std::string key_text(const Value& key) {
    switch (key.kind()) {
      case Kind::String:
        return key.bytes();
      case Kind::None:
        return "null";
      case Kind::Bool:
        return key.as_integer() ? "true" : "false";
      case Kind::Int:
        return fmt::format("{}", key.as_integer());
      case Kind::Float:
        return real(key.as_real());
      default:
        fail("TypeError", fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    }
  }

  void object(const Dict& dict) {
    if (dict.entries.empty()) return add("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    add("{");
    ++level_;
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) add(style_.item_separator);
      first = false;
      line_break();
      quoted(key_text(entry->first));
      add(style_.key_separator);
      write(entry->second);
    }
    --level_;
    line_break();
    add("}");
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

Value parse_json(std::string_view text) {
  // A NUL ends the text for nlohmann's scanner in some versions; no JSON has one outside an escape.
  if (text.find('\0') != std::string_view::npos) fail("ValueError", "must be valid JSON; it holds a NUL");
  Builder builder;
  nlohmann::json::sax_parse(text, &builder);
  return builder.take();
}

std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  runtime.charge(value);
  Writer writer(runtime, style);
  writer.write(value);
  return writer.take();
}

}  // namespace candela::jinja
