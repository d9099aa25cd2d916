#include "io/json_text.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>

namespace candela::io {
namespace {

constexpr std::string_view kBlank = " \t\r\n";

/// One past the quote that closes the string that opens at `begin`.
std::size_t end_of_string(std::string_view text, std::size_t begin) {
  std::size_t at = begin + 1;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  return std::min(at + 1, text.size());
}

/// One past the value that begins at `begin`.
std::size_t end_of_value(std::string_view text, std::size_t begin) {
  int depth = 0;
  std::size_t at = begin;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = end_of_string(text, at);
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
    if (c == '}' || c == ']') --depth;
    ++at;
  }
  return text.find_last_not_of(kBlank, at - 1) + 1;
}

struct Extent {
  std::size_t begin = 0, end = 0;
};

/// Where in the object `text` the value of its member `key` stands. Keys may be written with escapes.
std::optional<Extent> find_member(std::string_view text, std::string_view key) {
  std::size_t at = text.find('{') + 1;
  while (at < text.size()) {
    const std::size_t name = text.find('"', at);
    if (name == std::string_view::npos) return std::nullopt;
    const std::size_t name_end = end_of_string(text, name);
    const std::size_t begin = text.find_first_not_of(kBlank, text.find(':', name_end) + 1);
    const std::size_t end = end_of_value(text, begin);
    if (nlohmann::json::parse(text.substr(name, name_end - name)).get_ref<const std::string&>() == key)
      return Extent{begin, end};
    at = end;
  }
  return std::nullopt;
}

}  // namespace

std::string json_quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string json_number(double value) {
  return std::isfinite(value) ? nlohmann::json(value).dump() : "null";
}

std::string json_object(std::span<const JsonField> fields, int depth) {
  if (fields.empty()) return "{}";
  const std::string outer(2 * static_cast<std::size_t>(depth), ' ');
  std::string text = "{";
  for (const auto& [key, value] : fields)
    text += fmt::format("{}\n{}  {}: {}", text.size() == 1 ? "" : ",", outer, json_quoted(key), value);
  return text + fmt::format("\n{}}}", outer);
}

std::string with_json_member(const std::string& object, std::string_view key, std::string_view value) {
  if (const std::optional<Extent> found = find_member(object, key))
    return object.substr(0, found->begin) + std::string(value) + object.substr(found->end);
  const std::size_t close = object.rfind('}');
  const std::size_t last = object.find_last_not_of(kBlank, close - 1);
  const bool empty = object[last] == '{';
  return fmt::format("{}{}\n  {}: {}\n{}", object.substr(0, last + 1), empty ? "" : ",",
                     json_quoted(std::string(key)), value, object.substr(close));
}

}  // namespace candela::io
