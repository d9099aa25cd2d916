#include "hub/blob_store.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>

namespace candela::hub {
namespace {

namespace fs = std::filesystem;

/// Makes `folder`, whose parent is there; IoError if it is, or becomes, a link or a file.
void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directory(folder, error);
  std::error_code unseen;
  const bool plain = fs::symlink_status(folder, unseen).type() == fs::file_type::directory;
  require<IoError>(plain, "{}: must be a folder of the cache, and no link{}", folder.string(),
                   error ? ": " + error.message() : "");
}

}  // namespace

BlobStore::BlobStore(const fs::path& cache, const HubName& name)
    : root_(cache / name.folder()), locks_(cache / ".locks" / name.folder()) {
  std::error_code error;
  fs::create_directories(cache, error);
  require<IoError>(!error, "{}: cannot be made: {}; choose another cache (HF_HUB_CACHE)", cache.string(),
                   error.message());
  for (const fs::path& folder :
       {root_, root_ / "blobs", root_ / "snapshots", root_ / "refs", cache / ".locks", locks_})
    make_folder(folder);
}

bool BlobStore::has(const RemoteFile& file) const {
  std::error_code error;
  const fs::path path = blob(file);
  return fs::symlink_status(path, error).type() == fs::file_type::regular &&
         fs::file_size(path, error) == file.size && !error;
}

std::uint64_t BlobStore::waiting(const RemoteFile& file) const {
  std::error_code error;
  const std::uintmax_t size = file.checked && !has(file) ? fs::file_size(aside(file), error) : 0;
  return error || size > file.size ? 0 : size;
}

void BlobStore::link(const std::string& commit, const RemoteFile& file) const {
  fs::path folder = snapshot(commit);
  make_folder(folder);
  fs::path target = "../..";
  for (const fs::path& part : fs::path(file.path).parent_path()) {
    folder /= part;
    make_folder(folder);
    target /= "..";
  }
  target = target / "blobs" / file.blob;
  const fs::path link = snapshot(commit) / file.path;
  std::error_code error;
  if (fs::is_symlink(link, error) && fs::read_symlink(link, error) == target) return;
  // Two runs may be here at once.
  const Descriptor held = lock(file);
  const fs::path fresh = folder / fmt::format(".{}.link", file.blob);
  fs::remove(fresh, error);
  fs::create_symlink(target, fresh, error);
  if (!error) fs::rename(fresh, link, error);
  require<IoError>(!error, "{}: the link to its blob cannot be made: {}", link.string(), error.message());
}

void BlobStore::set_revision(const std::string& revision, const std::string& commit) const {
  if (revision == commit) return;
  fs::path folder = root_ / "refs";
  for (const fs::path& part : fs::path(revision).parent_path()) make_folder(folder /= part);
  write_file_atomically(root_ / "refs" / revision, commit);
}

Descriptor BlobStore::lock(const RemoteFile& file) const {
  const fs::path path = locks_ / (file.blob + ".lock");
  Descriptor descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  require<IoError>(descriptor.open(), "{}: cannot be opened: {}", path.string(),
                   std::generic_category().message(errno));
  int result = 0;
  do result = ::flock(descriptor.value(), LOCK_EX);
  while (result != 0 && errno == EINTR);
  // A file system without locks: the hashes still tell what two runs at once make of a file.
  return descriptor;
}

}  // namespace candela::hub
