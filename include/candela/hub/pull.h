#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <candela/io/hub_cache.h>

namespace candela {

/// How far a pull is.
struct PullProgress {
  /// the file at hand
  std::string file;
  /// bytes fetched in this run, of those that were missing when it began
  std::uint64_t done = 0;
  std::uint64_t total = 0;
};

struct PullOptions {
  /// $HF_ENDPOINT, else https://huggingface.co
  std::string endpoint;
  /// $HF_TOKEN or $HUGGING_FACE_HUB_TOKEN, else what $HF_TOKEN_PATH or the file token in hub_home() holds,
  /// one word; "": none. Sent to `endpoint` alone, not to where it redirects, and only over https or to this
  /// machine.
  std::string token;
  /// hub_cache()
  std::filesystem::path cache;
  /// Patterns of files to fetch, as fnmatch(3) reads them, and of those to leave out; none: what Candela
  /// reads.
  std::vector<std::string> include{};
  std::vector<std::string> exclude{};
  /// Requests of a file that bring nothing in a row until it is given up, with pauses that double between.
  int attempts = 5;
  std::chrono::milliseconds pause{500};
  std::function<void(const PullProgress&)> progress{};
  /// Told what a person should know: that a file is fetched anew, or a connection was lost.
  std::function<void(const std::string&)> note{};

  /// What the environment says. IoError for a token that is no single word, and where HF_HUB_OFFLINE is set.
  static PullOptions from_environment();
};

struct PullResult {
  std::filesystem::path snapshot;
  std::string commit;
  std::size_t files = 0;
  /// fetched in this run
  std::uint64_t bytes = 0;
};

/// Fetches a model or data set of the Hub into the cache as huggingface_hub lays it out: blobs/HASH, links to
/// them in snapshots/COMMIT, and, once all files are there, refs/REVISION.
///
/// A blob is written aside (HASH.incomplete) and renamed once it has its size and, for large files, the
/// SHA-256 that the Hub tells; what a stopped run leaves aside is continued. Each blob has a lock, the one
/// that huggingface_hub takes, so that several runs fetch each blob once.
///
/// IoError, saying what to do, where the Hub refuses (401, 403, 404), a file is not what was listed, or there
/// is no room; Unsupported in a build without libcurl.
PullResult pull(const HubName& name, const PullOptions& options);

}  // namespace candela
