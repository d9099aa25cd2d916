#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <candela/core/descriptor.h>
#include <candela/hub/pull.h>

#include "hub/http.h"
#include "hub/listing.h"
#include "hub/sha256.h"

namespace candela::hub {

/// The folders of one repository in a cache.
class BlobStore {
 public:
  /// Makes the folders. IoError where they cannot be made, or one of them is a link.
  BlobStore(const std::filesystem::path& cache, const HubName& name);

  bool has(const RemoteFile& file) const;
  /// Bytes of the file that lie aside and can be continued.
  std::uint64_t waiting(const RemoteFile& file) const;
  /// Puts the link to the file's blob into the snapshot, replacing what is there.
  void link(const std::string& commit, const RemoteFile& file) const;
  void set_revision(const std::string& revision, const std::string& commit) const;
  std::filesystem::path snapshot(const std::string& commit) const { return root_ / "snapshots" / commit; }

  std::filesystem::path blob(const RemoteFile& file) const { return root_ / "blobs" / file.blob; }
  std::filesystem::path aside(const RemoteFile& file) const {
    return root_ / "blobs" / (file.blob + ".incomplete");
  }
  /// Held while a blob is fetched; waits for whoever has it.
  Descriptor lock(const RemoteFile& file) const;

 private:
  std::filesystem::path root_;
  std::filesystem::path locks_;
};

/// Fetches one file into a store.
class BlobFetch {
 public:
  /// `got` is told of each piece that came; a negative number takes pieces back.
  BlobFetch(Http& http, const BlobStore& store, const RemoteFile& file, const PullOptions& options,
            std::function<void(std::int64_t)> got);

  /// Returns once the blob is in the store; false: another run had brought it.
  bool run(const std::string& url);

 private:
  void open_aside();
  void start_again();
  /// One request.
  void request(const std::string& url);
  void take(std::string_view piece);
  bool whole_and_right();

  Http& http_;
  const BlobStore& store_;
  const RemoteFile& file_;
  const PullOptions& options_;
  std::function<void(std::int64_t)> got_;
  Descriptor output_;
  std::uint64_t written_ = 0;
  /// bytes that a run before this one left
  std::uint64_t continued_ = 0;
  Sha256 hash_;
};

/// IoError for a status that no further try mends; `what`: the repository or file.
[[noreturn]] void refuse_status(long status, const std::string& what, const std::string& said,
                                const PullOptions& options);

}  // namespace candela::hub
