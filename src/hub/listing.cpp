#include "hub/listing.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <fnmatch.h>
#include <set>

#include <candela/core/error.h>

#include "io/hub_paths.h"
#include "io/json.h"
#include "io/listing.h"

namespace candela::hub {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 46U;

std::uint64_t size_of(const io::JsonObject& object) {
  const io::Json* const value = object.find("size");
  const bool whole =
      value != nullptr && value->is_number_unsigned() && value->get<std::uint64_t>() <= kMostBytes;
  if (!whole) object.fail("size", "a number of bytes up to 2^46");
  return value->get<std::uint64_t>();
}

std::string hash_of(const io::JsonObject& object, const char* key, std::size_t digits) {
  std::string hash = object.string(key);
  if (!io::is_hub_hash(hash) || hash.size() != digits)
    object.fail(key, fmt::format("{} hexadecimal digits", digits));
  return hash;
}

RemoteFile read_file_entry(const io::JsonObject& entry) {
  RemoteFile file;
  file.path = entry.string("rfilename");
  if (!io::is_plain_relative(file.path)) entry.fail("rfilename", "a relative path without . and ..");
  file.checked = entry.has("lfs");
  if (file.checked) {
    const io::JsonObject lfs = entry.object("lfs");
    file.blob = hash_of(lfs, "sha256", 64);
    file.size = size_of(lfs);
  } else {
    file.blob = hash_of(entry, "blobId", 40);
    file.size = size_of(entry);
  }
  return file;
}

/// No file may be what another takes for a folder, and none may come twice.
void check_tree(const std::vector<RemoteFile>& files, const std::string& source) {
  std::set<std::string_view> paths;
  for (const RemoteFile& file : files)
    require<IoError>(paths.insert(file.path).second, "{}: lists {} twice", source, file.path);
  for (const RemoteFile& file : files)
    for (std::size_t slash = file.path.find('/'); slash != std::string::npos;
         slash = file.path.find('/', slash + 1))
      require<IoError>(!paths.contains(std::string_view(file.path).substr(0, slash)),
                       "{}: lists {} as a file and as a folder", source, file.path.substr(0, slash));
}

bool matches(const std::vector<std::string>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
  });
}

bool ends_with_any(std::string_view path, std::span<const std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return path.ends_with(ending); });
}

/// At the top, or where templates and the modules of sentence-transformers lie.
bool in_model_folder(std::string_view path) {
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return true;
  const std::string_view folder = path.substr(0, slash);
  const bool module = folder.size() > 2 && folder[0] >= '0' && folder[0] <= '9' && folder[1] == '_';
  return path.find('/', slash + 1) == std::string_view::npos &&
         (module || folder == "additional_chat_templates");
}

bool usual(const std::string& path, HubKind kind, bool whole_weights) {
  const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  if (name.starts_with('.')) return false;
  if (kind == HubKind::Dataset) {
    constexpr std::array<std::string_view, 7> kRows = {".jsonl", ".ndjson", ".json", ".csv",
                                                       ".tsv",   ".txt",    ".text"};
    constexpr std::array<std::string_view, 3> kPacked = {".gz", ".xz", ".zst"};
    std::string_view plain = name;
    for (const std::string_view ending : kPacked)
      if (plain.ends_with(ending)) plain.remove_suffix(ending.size());
    return ends_with_any(plain, kRows);
  }
  constexpr std::array<std::string_view, 3> kModel = {".safetensors", ".json", ".jinja"};
  // Mistral's own copy of the weights.
  if (whole_weights && name.starts_with("consolidated")) return false;
  return in_model_folder(path) && (ends_with_any(name, kModel) || name.starts_with("tokenizer") ||
                                   name == "vocab.txt" || name == "merges.txt");
}

}  // namespace

Listing parse_listing(std::string_view json, const std::string& source) {
  const io::JsonTree document = io::parse_json(json, source, {.max_bytes = std::size_t{64} << 20});
  const io::JsonObject top(document, source);
  Listing listing;
  listing.commit = hash_of(top, "sha", 40);
  for (const io::JsonObject& entry : top.objects("siblings")) listing.files.push_back(read_file_entry(entry));
  check_tree(listing.files, source);
  return listing;
}

std::vector<RemoteFile> choose_files(const Listing& listing, const HubName& name,
                                     const std::vector<std::string>& include,
                                     const std::vector<std::string>& exclude) {
  const bool whole_weights =
      std::any_of(listing.files.begin(), listing.files.end(), [](const RemoteFile& file) {
        return file.path.starts_with("model") && file.path.ends_with(".safetensors");
      });
  std::vector<RemoteFile> chosen;
  for (const RemoteFile& file : listing.files) {
    const bool wanted =
        include.empty() ? usual(file.path, name.kind, whole_weights) : matches(include, file.path);
    if (wanted && !matches(exclude, file.path)) chosen.push_back(file);
  }
  std::vector<std::string> there;
  for (const RemoteFile& file : listing.files) there.push_back(file.path);
  require<IoError>(!chosen.empty(), "{}: no file to fetch; it holds {}: name some by --include", name.id,
                   there.empty() ? "none" : io::listed(there, ", "));
  // Small files first: what is wrong with a repository shows before the weights come.
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const RemoteFile& a, const RemoteFile& b) { return a.size < b.size; });
  return chosen;
}

}  // namespace candela::hub
