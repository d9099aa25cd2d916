#include "cli/config_entries.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "cli/usage.h"
#include "io/json.h"
#include "io/missing.h"

namespace candela::cli {
namespace {

using Kind = ConfigEntry::Kind;

/// Counts the bytes of values, which aliases can repeat beyond any bound. Written out, no value is more than
/// twice as long as what stands for it in the file; aliases may add some paths to that.
class ValueBytes {
 public:
  ValueBytes(std::size_t file_bytes, const std::string& file)
      : file_(file), most_(kAliasBytes + 2 * file_bytes) {}

  const std::string& add(const std::string& value, std::size_t line) {
    sum_ += value.size() + 1;
    require<UsageError>(
        sum_ <= most_,
        "{}:{}: the values must not outgrow the file; aliases repeat them to more than {} bytes", file_, line,
        most_);
    return value;
  }

 private:
  static constexpr std::size_t kAliasBytes = 65536;

  const std::string& file_;
  std::size_t most_;
  std::size_t sum_ = 0;
};

ConfigEntry from_yaml(const YAML::Node& key, const YAML::Node& value, ValueBytes& bytes) {
  ConfigEntry entry;
  entry.line = static_cast<std::size_t>(key.Mark().line) + 1;
  if (key.IsScalar()) entry.key = bytes.add(key.Scalar(), entry.line);
  if (value.IsNull()) entry.kind = Kind::Null;
  if (value.IsScalar()) {
    entry.kind = Kind::Scalar;
    entry.values = {bytes.add(value.Scalar(), entry.line)};
  }
  if (value.IsSequence()) {
    entry.kind = Kind::List;
    for (const YAML::Node& item : value) {
      if (!item.IsScalar()) entry.kind = Kind::Other;
      entry.values.push_back(bytes.add(item.IsScalar() ? item.Scalar() : std::string(), entry.line));
    }
  }
  return entry;
}

/// Lets everything pass.
class NoEvents final : public YAML::EventHandler {
  using Mark = YAML::Mark;
  using Anchor = YAML::anchor_t;
  using Style = YAML::EmitterStyle::value;
  using Text = std::string;

  void OnDocumentStart(const Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const Mark&, Anchor) override {}
  void OnAlias(const Mark&, Anchor) override {}
  void OnScalar(const Mark&, const Text&, Anchor, const Text&) override {}
  void OnSequenceStart(const Mark&, const Text&, Anchor, Style) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const Mark&, const Text&, Anchor, Style) override {}
  void OnMapEnd() override {}
};

/// UsageError unless `text` is one document. YAML::LoadAll() would not do: on some broken texts it finds
/// empty documents without end.
void check_one_document(const std::string& text, const std::string& file) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  NoEvents events;
  int documents = 0;
  while (documents < 2 && parser.HandleNextDocument(events)) ++documents;
  require<UsageError>(documents == 1,
                      "{}: holds {} documents{}; expected one mapping from option names to values", file,
                      documents, documents == 0 ? "" : " or more");
}

std::vector<ConfigEntry> read_yaml(const std::string& text, const std::string& file) {
  try {
    check_one_document(text, file);
    const YAML::Node document = YAML::Load(text);
    require<UsageError>(document.IsMap(), "{}: expected a mapping from option names to values", file);
    std::vector<ConfigEntry> entries;
    ValueBytes bytes(text.size(), file);
    for (const auto& item : document) entries.push_back(from_yaml(item.first, item.second, bytes));
    return entries;
  } catch (const YAML::DeepRecursion& error) {
    throw UsageError(
        fmt::format("{}:{}: must nest less deeply; expected one mapping from option names to values", file,
                    error.mark.line + 1));
  } catch (const YAML::Exception& error) {
    throw UsageError(fmt::format("{}:{}: is not YAML: {}", file, error.mark.line + 1, error.msg));
  }
}

/// A key of the outermost object and its line: nlohmann's documents keep neither lines nor the order.
using JsonKey = std::pair<std::string, std::size_t>;

/// The keys of the outermost object of `json`, which must be valid, in its order; one that is there twice
/// comes twice.
std::vector<JsonKey> outer_keys(std::string_view json) {
  std::vector<JsonKey> keys;
  std::size_t line = 1;
  int depth = 0;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '\n') ++line;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c != '"') continue;
    const std::size_t start = i++;
    while (i < json.size() && json[i] != '"') i += json[i] == '\\' ? 2 : 1;
    const std::size_t next = json.find_first_not_of(" \t\r\n", std::min(i + 1, json.size()));
    const bool is_key = next != std::string_view::npos && json[next] == ':';
    if (depth == 1 && is_key)
      keys.emplace_back(io::Json::parse(json.substr(start, i + 1 - start)).get<std::string>(), line);
  }
  return keys;
}

/// As read_settings() says it of YAML, which may hold a key twice; a JSON document is refused before.
void check_repeated_keys(const std::string& text, const std::string& file) {
  if (!io::is_json(text)) return;
  std::set<std::string> seen;
  for (const auto& [key, line] : outer_keys(text)) {
    require<UsageError>(seen.insert(key).second, "{}:{}: {}: occurs a second time; keep one of them", file,
                        line, key);
  }
}

std::string scalar_text(const io::Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::vector<ConfigEntry> read_json(const std::string& text, const std::string& file) {
  io::JsonTree document;
  try {
    document = io::parse_json(text, file);
  } catch (const IoError& error) {
    check_repeated_keys(text, file);
    throw UsageError(error.what());
  }
  require<UsageError>(document->is_object(), "{}: expected a mapping from option names to values", file);
  std::vector<ConfigEntry> entries;
  for (const auto& [key, line] : outer_keys(text)) {
    const io::Json& value = document->at(key);
    ConfigEntry entry{key, line, Kind::Other, {}};
    if (value.is_null()) entry.kind = Kind::Null;
    if (value.is_primitive() && !value.is_null()) {
      entry.kind = Kind::Scalar;
      entry.values = {scalar_text(value)};
    }
    if (value.is_array()) {
      entry.kind = Kind::List;
      for (const io::Json& item : value) {
        if (!item.is_primitive() || item.is_null()) entry.kind = Kind::Other;
        entry.values.push_back(item.is_primitive() ? scalar_text(item) : std::string());
      }
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

std::vector<ConfigEntry> read_config_entries(const std::string& file) {
  require<UsageError>(!file.empty(), "--config: must not be empty");
  std::error_code unseen;
  require<UsageError>(!std::filesystem::is_directory(file, unseen),
                      "{}: is a folder; --config takes a YAML or JSON file", file);
  std::string why;
  const bool there = io::is_there(file, why);
  require<UsageError>(why.empty(), "{}: {}", file, why);
  require<UsageError>(there, "{}: no such file; --config takes a YAML or JSON file", file);
  std::string text;
  try {
    text = io::read_file(file, std::size_t{1} << 20);
  } catch (const IoError& error) {
    throw UsageError(error.what());
  }
  return parse_config_entries(text, file);
}

std::vector<ConfigEntry> parse_config_entries(const std::string& text, const std::string& file) {
  std::vector<ConfigEntry> entries = file.ends_with(".json") ? read_json(text, file) : read_yaml(text, file);
  const auto has_nul = [](const std::string& value) { return value.find('\0') != std::string::npos; };
  for (const ConfigEntry& entry : entries) {
    // No argument of a command line can hold one, and a path would end at it.
    require<UsageError>(
        !has_nul(entry.key) && std::none_of(entry.values.begin(), entry.values.end(), has_nul),
        "{}:{}: {:?}: must not hold a NUL", file, entry.line, entry.key);
  }
  return entries;
}

}  // namespace candela::cli
