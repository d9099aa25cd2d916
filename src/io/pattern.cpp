#include "io/pattern.h"

namespace candela::io {
Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(std::string_view expression, std::string where, PatternSyntax syntax) {
  Pattern pattern;
  pattern.regex_.emplace(expression, std::move(where), syntax);
  return pattern;
}

std::vector<Span> Pattern::find_all(std::string_view text) const {
  if (regex_) return regex_->find_all(text);
  std::vector<Span> result;
  if (literal_.empty()) return result;
  for (std::size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size())) {
    result.push_back({at, at + literal_.size()});
  }
  return result;
}

std::string Pattern::replace(std::string_view text, std::string_view content, Growth& growth,
                             std::size_t beside) const {
  const std::vector<Span> matches = find_all(text);
  std::size_t size = text.size() + matches.size() * content.size();
  for (const Span& match : matches) size -= match.size();
  growth.check(beside + size);
  std::string result;
  result.reserve(size);
  std::size_t position = 0;
  for (const Span& match : matches) {
    result.append(text.substr(position, match.begin - position));
    result.append(content);
    position = match.end;
  }
  result.append(text.substr(position));
  return result;
}

Pattern make_pattern(const JsonObject& description, const char* key) {
  const JsonObject pattern = description.object(key);
  if (pattern.has("String")) return Pattern::literal(short_string(pattern, "String"));
  if (pattern.has("Regex")) {
    return Pattern::regex(pattern.string("Regex"),
                          fmt::format("{}: {}", description.source(), pattern.path_of("Regex")));
  }
  description.fail(key, "{\"String\": ...} or {\"Regex\": ...}");
}

}  // namespace candela::io
