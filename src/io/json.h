#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/error.h>

/// Reading JSON that came from outside: bounded in size and depth, duplicate keys refused, and every error
/// names the file and the field: `/x/config.json: hidden_size must be a positive integer; got "a"`.
namespace candela::io {

using Json = nlohmann::json;

/// A document from outside. nlohmann's destructor allocates, which ends the process where memory has run out:
/// this one takes the tree apart itself, as deep as JsonLimits let it become. It is read as a `const Json&`
/// and never becomes a Json, which would be destroyed nlohmann's way.
class JsonTree {
 public:
  JsonTree() = default;
  explicit JsonTree(Json&& value) noexcept : value_(std::move(value)) {}
  JsonTree(JsonTree&&) noexcept = default;
  JsonTree& operator=(JsonTree&& other) noexcept;
  JsonTree(const JsonTree&) = delete;
  JsonTree& operator=(const JsonTree&) = delete;
  ~JsonTree();

  operator const Json&() const noexcept { return value_; }  // NOLINT(google-explicit-constructor)
  operator Json() const = delete;
  const Json& operator*() const noexcept { return value_; }
  const Json* operator->() const noexcept { return &value_; }
  Json& value() noexcept { return value_; }

 private:
  Json value_;
};

/// Bounds on a document. Beyond them it is an IoError, and what was built so far is dropped.
struct JsonLimits {
  std::size_t max_bytes = std::size_t{1} << 30;
  int max_depth = 64;
  /// Objects, arrays, texts, numbers and so on. As a tree, `[{},{},...]` takes 32 times its bytes.
  std::size_t max_values = std::size_t{1} << 20;
};

/// The bytes of the regular file at `path`; IoError if it is missing, not a regular file, or above
/// `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::size_t max_bytes = std::size_t{1} << 30);

/// Whether `text` is one JSON document. Duplicate keys and any depth pass.
bool is_json(std::string_view text);

/// Parses one document. `source` (a file, or file:line) opens every error text.
JsonTree parse_json(std::string_view text, const std::string& source, const JsonLimits& limits = {});

/// Reads and parses the file at `path`.
JsonTree load_json(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Runs nlohmann's SAX parser with the bounds of `limits` over `text` and lets `handler` see every event;
/// IoError with line and column if the text is not JSON.
class JsonEvents;
void parse_json_events(std::string_view text, const std::string& source, JsonEvents& handler,
                       const JsonLimits& limits = {});

/// Parses an object of any number of members, each handed to `take` once it is read and dropped afterwards:
/// the bounds of `limits` on depth and values hold for one member. IoError if the document is no object, or a
/// member is no object itself; `take` finds keys that occur twice.
void parse_json_members(std::string_view text, const std::string& source, const JsonLimits& limits,
                        const std::function<void(const std::string& key, const Json& value)>& take);

/// A value as it should appear in an error text: compact JSON, shortened to about 60 characters.
std::string shown(const Json& value);

/// A JSON object together with where it stands, so that each getter can say what is wrong.
/// It refers to the document it was made from, which must outlive it. A null value counts as absent
/// throughout.
class JsonObject {
 public:
  /// IoError unless `value` is an object. `path` is the dotted path of the object in the file, empty at the
  /// top.
  JsonObject(const Json& value, std::string source, std::string path = "");

  const std::string& source() const { return source_; }
  const Json& json() const { return *value_; }

  /// Whether `key` is there and not null.
  bool has(const char* key) const { return find(key) != nullptr; }
  const Json* find(const char* key) const;
  /// The value of `key`; IoError if absent.
  const Json& at(const char* key) const;

  std::int64_t integer(const char* key) const;
  std::int64_t integer(const char* key, std::int64_t otherwise) const;
  /// An integer in [1, 2^31).
  std::int64_t positive(const char* key) const;
  std::int64_t positive(const char* key, std::int64_t otherwise) const;
  /// A finite number.
  double number(const char* key) const;
  double number(const char* key, double otherwise) const;
  bool boolean(const char* key) const;
  bool boolean(const char* key, bool otherwise) const;
  std::string string(const char* key) const;
  std::string string(const char* key, std::string otherwise) const;
  std::vector<double> numbers(const char* key) const;
  std::vector<std::string> strings(const char* key) const;
  /// One integer or a list of integers (as eos_token_id is written); empty if absent.
  std::vector<std::int64_t> integers_or_one(const char* key) const;
  JsonObject object(const char* key) const;
  /// The objects of an array; IoError if `key` is not an array of objects.
  std::vector<JsonObject> objects(const char* key) const;

  /// The dotted path of `key` from the top of the file.
  std::string path_of(std::string_view key) const;
  /// Throws IoError `source: path.key must be EXPECTED; got VALUE`.
  [[noreturn]] void fail(const char* key, std::string_view expected) const;

 private:
  const Json* value_;
  std::string source_;
  std::string path_;
};

/// What the SAX parser reports; each returns false to stop. The names and types are those nlohmann's parser
/// calls.
class JsonEvents {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  virtual ~JsonEvents() = default;
  virtual bool null() = 0;
  virtual bool boolean(bool value) = 0;
  virtual bool number_integer(number_integer_t value) = 0;
  virtual bool number_unsigned(number_unsigned_t value) = 0;
  virtual bool number_float(number_float_t value, const string_t& text) = 0;
  virtual bool string(string_t& value) = 0;
  virtual bool binary(binary_t& value) = 0;
  virtual bool start_object(std::size_t elements) = 0;
  virtual bool key(string_t& value) = 0;
  virtual bool end_object() = 0;
  virtual bool start_array(std::size_t elements) = 0;
  virtual bool end_array() = 0;
  virtual bool parse_error(std::size_t position, const std::string& token, const Json::exception& error) = 0;
};

/// Builds a document from the events, with the depth bound and without duplicate keys. A derived class may
/// take parts of the document for itself (a vocabulary need not become a tree).
class JsonBuilder : public JsonEvents {
 public:
  JsonBuilder(std::string_view text, std::string source, const JsonLimits& limits = {});

  JsonTree take() { return std::move(root_); }

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t& text) override;
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t& value) override;
  bool start_object(std::size_t elements) override;
  bool key(string_t& value) override;
  bool end_object() override { return close(); }
  bool start_array(std::size_t elements) override;
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string& token, const Json::exception& error) override;

 protected:
  /// Number of objects and arrays that are open.
  std::size_t depth() const { return open_.size(); }
  /// The key last read in the innermost open object.
  const std::string& current_key() const { return key_; }
  const std::string& source() const { return source_; }
  /// Ends the innermost object or array.
  virtual bool close();
  /// Takes the member `key` of the outermost object out of the document, where it no longer counts; nothing
  /// if the document is no object or has no such member.
  std::optional<JsonTree> take_member(const std::string& key);

 private:
  bool add(Json&& value);
  bool open(Json&& value);
  Json* place(Json&& value);

  std::string_view text_;
  std::string source_;
  JsonLimits limits_;
  std::size_t values_ = 0;
  JsonTree root_;
  std::vector<Json*> open_;
  std::string key_;
};

}  // namespace candela::io
