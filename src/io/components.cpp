#include "io/components.h"

#include "io/utf8.h"

namespace candela::io {
namespace {

constexpr std::size_t kMostGrowth = 64;
constexpr std::size_t kAlwaysAllowed = std::size_t{1} << 20;  // bytes, or tokens

void add_components(const JsonObject& description, const JsonObject& file, const char* key, const char* list,
                    std::vector<JsonObject>& result) {
  if (description.string("type") == "Sequence") {
    for (const JsonObject& part : description.objects(list)) add_components(part, file, key, list, result);
    return;
  }
  require<IoError>(result.size() < kMostComponents, "{}: {} must have at most {} components; got more",
                   file.source(), file.path_of(key), kMostComponents);
  result.push_back(description);
}

std::string read_string(const JsonObject& description, const char* key,
                        std::optional<std::string> otherwise) {
  return otherwise ? description.string(key, std::move(*otherwise)) : description.string(key);
}

}  // namespace

Growth::Growth(std::size_t bytes, std::string_view source, const char* unit)
    : bytes_(bytes), source_(source), unit_(unit), limit_(std::max(kAlwaysAllowed, bytes * kMostGrowth)) {}

void Growth::refuse() const {
  throw InvalidArgument(
      fmt::format("{}: its components must not let {} bytes of text grow {}-fold; got {} {}", source_, bytes_,
                  kMostGrowth, before_ + most_, unit_));
}

std::string short_string(const JsonObject& description, const char* key,
                         std::optional<std::string> otherwise) {
  std::string text = read_string(description, key, std::move(otherwise));
  require<IoError>(text.size() <= kMostStringBytes, "{}: {} must be at most {} bytes; got {}",
                   description.source(), description.path_of(key), kMostStringBytes, text.size());
  return text;
}

std::string one_character(const JsonObject& description, const char* key,
                          std::optional<std::string> otherwise) {
  std::string text = read_string(description, key, std::move(otherwise));
  if (text.empty() || code_point_at(text, 0).bytes != text.size()) description.fail(key, "one character");
  return text;
}

std::vector<JsonObject> components(const JsonObject& file, const char* key, const char* list) {
  std::vector<JsonObject> result;
  if (file.has(key)) add_components(file.object(key), file, key, list, result);
  return result;
}

}  // namespace candela::io
