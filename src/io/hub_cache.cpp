#include <algorithm>
#include <array>
#include <cstdlib>
#include <fmt/format.h>

#include <candela/core/error.h>
#include <candela/io/hub_cache.h>

#include "io/hub_paths.h"
#include "io/json.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// One half of an id, as the Hub allows it.
bool is_id_part(std::string_view part) {
  return !part.empty() && part.size() <= 96 && part.front() != '-' && part.front() != '.' &&
         part.back() != '-' && part.back() != '.' && part.find("--") == std::string_view::npos &&
         part.find("..") == std::string_view::npos && std::all_of(part.begin(), part.end(), [](char c) {
           return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.';
         });
}

/// The path in the environment variable, ~ replaced; empty: not set.
fs::path path_from(const char* variable) {
  const char* const value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return {};
  const std::string_view text = value;
  const char* const home = std::getenv("HOME");
  if (home != nullptr && (text == "~" || text.starts_with("~/"))) return home + std::string(text.substr(1));
  return text;
}

/// Names that say that a file is meant, not something of the Hub.
bool names_a_file(std::string_view text) {
  constexpr std::array<std::string_view, 13> kEndings = {".jsonl", ".ndjson", ".json",       ".csv", ".tsv",
                                                         ".txt",   ".md",     ".gz",         ".xz",  ".zst",
                                                         ".yaml",  ".jinja",  ".safetensors"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return text.ends_with(ending); });
}

/// The commit that a revision is in the cache; nothing: it is not there.
std::optional<std::string> commit_of(const fs::path& repository, const std::string& revision) {
  std::error_code error;
  const fs::path reference = repository / "refs" / revision;
  if (fs::is_regular_file(reference, error)) {
    std::string commit = io::read_file(reference, 256);
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
    require<IoError>(io::is_hub_hash(commit), "{}: must hold the hash of a commit; got {:?}",
                     reference.string(), commit);
    return commit;
  }
  const bool is_commit =
      io::is_hub_hash(revision) && fs::is_directory(repository / "snapshots" / revision, error);
  return is_commit ? std::optional(revision) : std::nullopt;
}

}  // namespace

bool io::is_hub_hash(std::string_view text) {
  return text.size() >= 7 && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool io::is_plain_relative(std::string_view path) {
  if (path.empty() || path.size() > 1024) return false;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, end - start);
    const bool plain = std::all_of(part.begin(), part.end(), [](char c) {
      return static_cast<unsigned char>(c) >= 0x20 && c != 0x7F && c != '\\';
    });
    if (part.empty() || part == "." || part == ".." || part.size() > 255 || !plain) return false;
    start = end + 1;
  }
  return true;
}

std::optional<HubName> HubName::parse(std::string_view text, HubKind kind) {
  HubName name;
  name.kind = kind;
  // The revision may hold slashes only where nothing follows it: refs/pr/1.
  const std::size_t at = text.find('@');
  std::string_view id = text.substr(0, at);
  std::string_view inside;
  const std::size_t slash = id.find('/');
  const std::size_t second = slash == std::string_view::npos ? slash : id.find('/', slash + 1);
  if (at == std::string_view::npos && second != std::string_view::npos) {
    inside = id.substr(second + 1);
    id = id.substr(0, second);
    if (!io::is_plain_relative(inside)) return std::nullopt;
  } else if (at != std::string_view::npos) {
    name.revision = text.substr(at + 1);
    if (!io::is_plain_relative(name.revision) || second != std::string_view::npos) return std::nullopt;
  }
  const bool fits = slash == std::string_view::npos
                        ? is_id_part(id)
                        : is_id_part(id.substr(0, slash)) && is_id_part(id.substr(slash + 1));
  if (!fits) return std::nullopt;
  name.id = id;
  name.inside = inside;
  return name;
}

std::string HubName::folder() const {
  std::string text = kind == HubKind::Model ? "models--" : "datasets--";
  for (const char c : id) c == '/' ? text += "--" : text += c;
  return text;
}

fs::path hub_home() {
  if (const fs::path home = path_from("HF_HOME"); !home.empty()) return home;
  if (const fs::path caches = path_from("XDG_CACHE_HOME"); !caches.empty()) return caches / "huggingface";
  if (const fs::path home = path_from("HOME"); !home.empty()) return home / ".cache" / "huggingface";
  return {};
}

fs::path hub_cache() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const fs::path cache = path_from(variable); !cache.empty()) return cache;
  const fs::path home = hub_home();
  return home.empty() ? home : home / "hub";
}

fs::path local_path(const fs::path& name, HubKind kind) {
  std::error_code error;
  const std::string text = name.string();
  // What cannot be looked at is told where it is opened.
  const fs::file_status status = fs::status(name, error);
  if (fs::exists(status) || status.type() == fs::file_type::none) return name;
  const std::optional<HubName> parsed = HubName::parse(text, kind);
  const fs::path cache = hub_cache();
  if (!parsed || cache.empty()) return name;
  const fs::path repository = cache / parsed->folder();
  const bool cached = fs::is_directory(repository, error);
  const bool sure =
      parsed->id.find('/') != std::string::npos && parsed->inside.empty() && !names_a_file(text);
  if (!cached && !sure) return name;
  const std::string fetch =
      fmt::format("`candela pull {}{}{}`", kind == HubKind::Dataset ? "--dataset " : "", parsed->id,
                  parsed->revision == "main" ? "" : " --revision " + parsed->revision);
  require<IoError>(cached,
                   "{}: no such file or folder, and not in the Hub cache ({}); check the path, or fetch it "
                   "from the Hub: {}",
                   text, repository.string(), fetch);
  const std::optional<std::string> commit = commit_of(repository, parsed->revision);
  const fs::path snapshot = commit ? repository / "snapshots" / *commit : fs::path();
  require<IoError>(commit && fs::is_directory(snapshot, error),
                   "{}: the Hub cache ({}) does not hold its revision {}; fetch it: {}", text,
                   repository.string(), parsed->revision, fetch);
  return parsed->inside.empty() ? snapshot : snapshot / parsed->inside;
}

}  // namespace candela
