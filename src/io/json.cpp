#include "io/json.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/descriptor.h>

#include "io/missing.h"

namespace candela::io {
namespace {

constexpr std::int64_t kMaxSize = (std::int64_t{1} << 31) - 1;

/// Line and column (from 1) of the byte at `position`.
std::pair<std::size_t, std::size_t> line_and_column(std::string_view text, std::size_t position) {
  const std::string_view before = text.substr(0, std::min(position, text.size()));
  const auto line = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const std::size_t start = before.rfind('\n');
  const std::size_t column = start == std::string_view::npos ? before.size() : before.size() - start - 1;
  return {line, std::max<std::size_t>(column, 1)};
}

/// IoError for what is wrong with the last of the first `read` bytes of `text`.
[[noreturn]] void refuse(std::string_view text, std::size_t read, const std::string& source,
                         std::string_view reason) {
  const auto [line, column] = line_and_column(text, read);
  // The source of a text of one line may name a line of its own: a row of a JSONL file.
  const std::string at = text.find('\n') == std::string_view::npos
                             ? fmt::format("column {}", column)
                             : fmt::format("line {}, column {}", line, column);
  throw IoError(fmt::format("{}: must be valid JSON; at {}: {}", source, at, reason));
}

/// nlohmann's text without its own prefix `[json.exception.parse_error.101] parse error at line 1, column 2:
/// `.
std::string plain_message(const char* what) {
  std::string text = what;
  const std::size_t colon = text.find(": ");
  if (colon != std::string::npos) text = text.substr(colon + 2);
  return text.size() > 200 ? text.substr(0, 200) + "..." : text;
}

}  // namespace

std::string read_file(const std::filesystem::path& path, std::size_t max_bytes) {
  // Non-blocking, so that a named pipe is refused below instead of waited for.
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (descriptor.value() < 0) throw IoError(fmt::format("{}: {}", path.string(), why_not_opened(errno)));
  struct stat status {};
  const auto unreadable = [&] {
    return IoError(
        fmt::format("{}: cannot be read: {}", path.string(), std::generic_category().message(errno)));
  };
  if (::fstat(descriptor.value(), &status) != 0) throw unreadable();
  require<IoError>(S_ISREG(status.st_mode), "{}: must be a regular file", path.string());
  const auto size = static_cast<std::uint64_t>(status.st_size);
  require<IoError>(size <= max_bytes, "{}: must be at most {} bytes; got {}", path.string(), max_bytes, size);
  std::string content(static_cast<std::size_t>(size), '\0');
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = ::read(descriptor.value(), content.data() + done, content.size() - done);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw unreadable();
    done += static_cast<std::size_t>(got);
  }
  require<IoError>(done == content.size(), "{}: expected {} bytes; got {}", path.string(), size, done);
  return content;
}

std::string shown(const Json& value) {
  if (value.is_structured() && value.size() > 16) {
    return fmt::format("{} of {} entries", value.is_array() ? "an array" : "an object", value.size());
  }
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

namespace {

/// Empties `value` without allocating.
void dismantle(Json& value) noexcept {
  if (auto* const array = value.get_ptr<Json::array_t*>()) {
    for (Json& item : *array) dismantle(item);
    array->clear();
  } else if (auto* const object = value.get_ptr<Json::object_t*>()) {
    for (auto& [key, item] : *object) dismantle(item);
    object->clear();
  }
}

}  // namespace

JsonTree& JsonTree::operator=(JsonTree&& other) noexcept {
  dismantle(value_);
  value_ = std::move(other.value_);
  return *this;
}

JsonTree::~JsonTree() {
  dismantle(value_);
}

bool is_json(std::string_view text) {
  return text.find('\0') == std::string_view::npos && Json::accept(text);
}

JsonBuilder::JsonBuilder(std::string_view text, std::string source, const JsonLimits& limits)
    : text_(text), source_(std::move(source)), limits_(limits) {}

Json* JsonBuilder::place(Json&& value) {
  require<IoError>(++values_ <= limits_.max_values, "{}: must hold at most {} values; got more", source_,
                   limits_.max_values);
  if (open_.empty()) {
    root_ = JsonTree(std::move(value));
    return &root_.value();
  }
  Json& parent = *open_.back();
  if (parent.is_array()) {
    parent.push_back(std::move(value));
    return &parent.back();
  }
  auto [entry, inserted] = parent.get_ref<Json::object_t&>().emplace(std::move(key_), std::move(value));
  require<IoError>(inserted, "{}: key \"{}\" must occur once; it occurs again in the same object", source_,
                   entry->first);
  return &entry->second;
}

bool JsonBuilder::add(Json&& value) {
  place(std::move(value));
  return true;
}

bool JsonBuilder::open(Json&& value) {
  require<IoError>(open_.size() < static_cast<std::size_t>(limits_.max_depth),
                   "{}: must nest at most {} levels deep; got more", source_, limits_.max_depth);
  open_.push_back(place(std::move(value)));
  return true;
}

bool JsonBuilder::close() {
  open_.pop_back();
  return true;
}

std::optional<JsonTree> JsonBuilder::take_member(const std::string& key) {
  Json& root = root_.value();
  const auto found = root.is_object() ? root.find(key) : root.end();
  if (found == root.end()) return std::nullopt;
  JsonTree value(std::move(*found));
  root.erase(found);
  values_ = root.size() + 1;
  return value;
}

bool JsonBuilder::number_float(number_float_t value, const string_t&) {
  return add(Json(value));
}

bool JsonBuilder::binary(binary_t&) {
  return false;
}

bool JsonBuilder::start_object(std::size_t) {
  return open(Json::object());
}

bool JsonBuilder::start_array(std::size_t) {
  return open(Json::array());
}

bool JsonBuilder::key(string_t& value) {
  // C strings end there: it would pass for another key.
  require<IoError>(value.find('\0') == std::string::npos, "{}: a key must not hold a NUL; got {:?}", source_,
                   value);
  key_ = std::move(value);
  return true;
}

bool JsonBuilder::parse_error(std::size_t position, const std::string&, const Json::exception& error) {
  refuse(text_, position, source_, plain_message(error.what()));
}

void parse_json_events(std::string_view text, const std::string& source, JsonEvents& handler,
                       const JsonLimits& limits) {
  require<IoError>(text.size() <= limits.max_bytes, "{}: must be at most {} bytes; got {}", source,
                   limits.max_bytes, text.size());
  // nlohmann's parser takes it for the end: whatever follows would go unseen.
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) refuse(text, nul + 1, source, "a NUL byte");
  const bool complete = Json::sax_parse(text.begin(), text.end(), &handler);
  require<IoError>(complete, "{}: must be valid JSON", source);
}

JsonTree parse_json(std::string_view text, const std::string& source, const JsonLimits& limits) {
  JsonBuilder builder(text, source, limits);
  parse_json_events(text, source, builder, limits);
  return builder.take();
}

namespace {

/// Hands over the members of the outermost object one by one.
class MemberReader final : public JsonBuilder {
 public:
  MemberReader(std::string_view text, const std::string& source, const JsonLimits& limits,
               const std::function<void(const std::string&, const Json&)>& take)
      : JsonBuilder(text, source, limits), take_(take) {}

  bool key(string_t& value) override {
    if (depth() == 1) member_ = value;
    return JsonBuilder::key(value);
  }

 protected:
  bool close() override {
    JsonBuilder::close();
    if (depth() != 1) return true;
    if (const std::optional<JsonTree> value = take_member(member_)) take_(member_, *value);
    return true;
  }

 private:
  const std::function<void(const std::string&, const Json&)>& take_;
  std::string member_;
};

}  // namespace

void parse_json_members(std::string_view text, const std::string& source, const JsonLimits& limits,
                        const std::function<void(const std::string&, const Json&)>& take) {
  MemberReader reader(text, source, limits, take);
  parse_json_events(text, source, reader, limits);
  // What is left are members that are no objects or arrays.
  const JsonTree rest = reader.take();
  const JsonObject top(rest, source);
  for (const auto& [key, value] : rest->items()) take(key, value);
}

JsonTree load_json(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path.string(), limits);
}

JsonObject::JsonObject(const Json& value, std::string source, std::string path)
    : value_(&value), source_(std::move(source)), path_(std::move(path)) {
  if (value.is_object()) return;
  throw IoError(path_.empty()
                    ? fmt::format("{}: must be a JSON object; got {}", source_, shown(value))
                    : fmt::format("{}: {} must be a JSON object; got {}", source_, path_, shown(value)));
}

std::string JsonObject::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

const Json* JsonObject::find(const char* key) const {
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

void JsonObject::fail(const char* key, std::string_view expected) const {
  const auto value = value_->find(key);
  throw IoError(
      fmt::format("{}: {} must be {}; got {}", source_, path_of(key), expected,
                  value != value_->end() ? shown(*value) : std::string("nothing (the field is missing)")));
}

const Json& JsonObject::at(const char* key) const {
  const Json* value = find(key);
  if (!value) fail(key, "present");
  return *value;
}

std::int64_t JsonObject::integer(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_number_integer()) fail(key, "an integer");
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
    fail(key, "an integer below 2^63");
  }
  return value->get<std::int64_t>();
}

std::int64_t JsonObject::integer(const char* key, std::int64_t otherwise) const {
  return has(key) ? integer(key) : otherwise;
}

std::int64_t JsonObject::positive(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_number_integer()) fail(key, "a positive integer");
  const bool fits = value->is_number_unsigned() && value->get<std::uint64_t>() >= 1 &&
                    value->get<std::uint64_t>() <= static_cast<std::uint64_t>(kMaxSize);
  if (!fits) fail(key, "a positive integer below 2^31");
  return value->get<std::int64_t>();
}

std::int64_t JsonObject::positive(const char* key, std::int64_t otherwise) const {
  return has(key) ? positive(key) : otherwise;
}

double JsonObject::number(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_number()) fail(key, "a number");
  const double number = value->get<double>();
  if (!std::isfinite(number)) fail(key, "a finite number");
  return number;
}

double JsonObject::number(const char* key, double otherwise) const {
  return has(key) ? number(key) : otherwise;
}

bool JsonObject::boolean(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_boolean()) fail(key, "true or false");
  return value->get<bool>();
}

bool JsonObject::boolean(const char* key, bool otherwise) const {
  return has(key) ? boolean(key) : otherwise;
}

std::string JsonObject::string(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

std::string JsonObject::string(const char* key, std::string otherwise) const {
  return has(key) ? string(key) : std::move(otherwise);
}

std::vector<double> JsonObject::numbers(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_array()) fail(key, "an array of numbers");
  std::vector<double> result;
  result.reserve(value->size());
  for (const Json& item : *value) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) fail(key, "an array of finite numbers");
    result.push_back(item.get<double>());
  }
  return result;
}

std::vector<std::string> JsonObject::strings(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_array()) fail(key, "an array of strings");
  std::vector<std::string> result;
  result.reserve(value->size());
  for (const Json& item : *value) {
    if (!item.is_string()) fail(key, "an array of strings");
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<std::int64_t> JsonObject::integers_or_one(const char* key) const {
  const Json* value = find(key);
  if (!value) return {};
  if (value->is_number_integer()) return {integer(key)};
  if (!value->is_array()) fail(key, "an integer or an array of integers");
  std::vector<std::int64_t> result;
  for (const Json& item : *value) {
    if (!item.is_number_integer() || (item.is_number_unsigned() && item.get<std::uint64_t>() > kMaxSize)) {
      fail(key, "an integer or an array of integers below 2^31");
    }
    result.push_back(item.get<std::int64_t>());
  }
  return result;
}

JsonObject JsonObject::object(const char* key) const {
  const Json* value = find(key);
  if (!value) fail(key, "a JSON object");
  return JsonObject(*value, source_, path_of(key));
}

std::vector<JsonObject> JsonObject::objects(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_array()) fail(key, "an array of objects");
  std::vector<JsonObject> result;
  result.reserve(value->size());
  for (std::size_t i = 0; i < value->size(); ++i) {
    result.emplace_back((*value)[i], source_, fmt::format("{}[{}]", path_of(key), i));
  }
  return result;
}

}  // namespace candela::io
