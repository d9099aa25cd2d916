#include <algorithm>
#include <array>
#include <cstdlib>
#include <fmt/format.h>
#include <set>
#include <string_view>
#include <thread>

#include <candela/core/error.h>
#include <candela/hub/pull.h>

#include "hub/blob_store.h"
#include "io/json.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostListing = std::size_t{64} << 20;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

/// The token, blanks around it left out; IoError unless it is one word that a header can hold.
std::string checked_token(std::string token, const std::string& source) {
  const char* const blanks = " \t\r\n";
  token.erase(0, std::min(token.find_first_not_of(blanks), token.size()));
  token.erase(token.find_last_not_of(blanks) + 1);
  const bool word = token.size() <= 4096 &&
                    std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  require<IoError>(word, "{}: must hold a token of letters and digits in one line", source);
  return token;
}

std::string find_token() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (const std::string token = checked_token(variable(name), name); !token.empty()) return token;
  const std::string given = variable("HF_TOKEN_PATH");
  const fs::path home = hub_home();
  if (given.empty() && home.empty()) return {};
  const fs::path file = given.empty() ? home / "token" : fs::path(given);
  std::error_code error;
  if (!fs::exists(file, error)) return {};
  return checked_token(io::read_file(file, 65536), file.string());
}

void call_with_retries(const PullOptions& options, const std::function<void()>& request) {
  std::chrono::milliseconds pause = options.pause;
  for (int attempt = 1;; ++attempt) {
    try {
      return request();
    } catch (const hub::Transient& error) {
      require<IoError>(attempt < options.attempts, "{}; {} tries failed: try again later", error.what(),
                       attempt);
      if (options.note) options.note(fmt::format("{}: trying again", error.what()));
      std::this_thread::sleep_for(
          std::max<std::chrono::milliseconds>(pause, std::chrono::seconds(error.wait_s)));
      pause = std::min(pause * 2, std::chrono::milliseconds(16000));
    }
  }
}

hub::Listing list_files(hub::Http& http, const HubName& name, const PullOptions& options) {
  const std::string url = fmt::format("{}/api/{}/{}/revision/{}?blobs=true", options.endpoint,
                                      name.kind == HubKind::Model ? "models" : "datasets",
                                      hub::url_escaped(name.id, "/"), hub::url_escaped(name.revision));
  std::string json;
  hub::Reply reply;
  call_with_retries(options, [&] {
    reply = http.get(
        {url, options.token, 0}, [&](const hub::Reply&) { json.clear(); },
        [&](std::string_view piece) {
          require<IoError>(json.size() + piece.size() <= kMostListing,
                           "{}: the listing must be at most {} bytes; the server sends more", url,
                           kMostListing);
          json += piece;
        });
  });
  if (reply.status != 200)
    hub::refuse_status(reply.status, fmt::format("{} ({})", name.id, url), http.error_text(), options);
  return hub::parse_listing(json, url);
}

void check_room(const fs::path& cache, std::uint64_t missing, const HubName& name) {
  std::error_code error;
  const fs::space_info space = fs::space(cache, error);
  require<IoError>(error || space.available >= missing,
                   "{}: {} bytes of {} are missing, and {} are free; make room, or choose another cache "
                   "(HF_HUB_CACHE)",
                   cache.string(), missing, name.id, space.available);
}

}  // namespace

PullOptions PullOptions::from_environment() {
  const std::string offline = variable("HF_HUB_OFFLINE");
  constexpr std::array<std::string_view, 6> kYes = {"1", "ON", "on", "TRUE", "true", "YES"};
  require<IoError>(std::find(kYes.begin(), kYes.end(), offline) == kYes.end(),
                   "HF_HUB_OFFLINE: is {}, so that nothing is fetched; unset it to fetch", offline);
  PullOptions options;
  options.endpoint = variable("HF_ENDPOINT");
  if (options.endpoint.empty()) options.endpoint = "https://huggingface.co";
  options.token = find_token();
  options.cache = hub_cache();
  return options;
}

PullResult pull(const HubName& name, const PullOptions& given) {
  PullOptions options = given;
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  require(!options.cache.empty(), "pull: needs a cache; set HF_HOME or HOME");
  require(options.attempts >= 1, "pull: attempts must be at least 1; got {}", options.attempts);
  hub::Http http;
  const hub::Listing listing = list_files(http, name, options);
  const std::vector<hub::RemoteFile> files = choose_files(listing, name, options.include, options.exclude);
  const hub::BlobStore store(options.cache, name);
  PullProgress progress;
  std::set<std::string_view> seen;
  for (const hub::RemoteFile& file : files)
    if (!store.has(file) && seen.insert(file.blob).second) progress.total += file.size - store.waiting(file);
  check_room(options.cache, progress.total, name);
  PullResult result{store.snapshot(listing.commit), listing.commit, files.size(), 0};
  for (const hub::RemoteFile& file : files) {
    progress.file = file.path;
    const auto tell = [&](std::int64_t bytes) {
      progress.done += static_cast<std::uint64_t>(bytes);  // wraps back where pieces are taken back
      progress.total = std::max(progress.total, progress.done);
      if (options.progress) options.progress(progress);
    };
    if (!store.has(file)) {
      const std::string url = fmt::format(
          "{}/{}{}/resolve/{}/{}", options.endpoint, name.kind == HubKind::Model ? "" : "datasets/",
          hub::url_escaped(name.id, "/"), listing.commit, hub::url_escaped(file.path, "/"));
      const std::uint64_t before = progress.done;
      if (hub::BlobFetch(http, store, file, options, tell).run(url)) result.bytes += progress.done - before;
    }
    store.link(listing.commit, file);
  }
  // Last, so that the revision never names a snapshot that lacks files.
  store.set_revision(name.revision, listing.commit);
  return result;
}

}  // namespace candela
