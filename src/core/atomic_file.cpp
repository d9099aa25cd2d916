#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include <candela/core/atomic_file.h>
#include <candela/core/descriptor.h>
#include <candela/core/error.h>

#include "core/folders.h"

namespace candela {
namespace {

/// The file that a chain of symbolic links ends at, so that a save replaces the file and not the link.
std::filesystem::path resolved(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const auto target = std::filesystem::weakly_canonical(path, error);
  return error ? path : target;
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// Whoever writes a file aside holds a lock on it, which ends with the process: one that can be locked is
/// nobody's. (A process number would say less: it may be another container's.)
void remove_stale(const std::filesystem::path& folder, const std::string& prefix) {
  std::error_code error;  // a folder that cannot be read keeps what is left over in it
  for (const std::string& name : names_in(folder, error)) {
    const std::filesystem::path path = folder / name;
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    // Non-blocking: what has the name may be a pipe, which nobody may ever open at its other end.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) continue;
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (regular && ::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    ::close(descriptor);
  }
}

/// Creates `path` and locks it; -1 with errno EEXIST if another has it or took it for left over in between.
int create_locked(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return -1;
  // Whoever holds the lock took the file for left over and is about to remove it. Some file systems have no
  // locks: the file is good without.
  const bool taken = ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  struct stat status {};
  if (!taken && ::fstat(descriptor, &status) == 0 && status.st_nlink > 0) return descriptor;
  ::close(descriptor);
  errno = EEXIST;
  return -1;
}

/// As check_replaceable(), of a path without a symbolic link at its end.
void check_target(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  require<IoError>(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status),
                   "{}: must be a regular file or not exist; choose another file to write", path.string());
}

/// More than macOS takes in one write() is refused as invalid.
constexpr std::size_t kMostWritten = std::size_t{1} << 30U;

/// What replaces a file has its permissions, so that a private one stays private. Best effort: the file may
/// be another user's, and some file systems have no permissions.
void take_permissions(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0)
    static_cast<void>(::fchmod(descriptor, status.st_mode & 0777U) != 0);
}

}  // namespace

void flush_folder(const std::filesystem::path& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.open()) ::fsync(descriptor.value());
}

void check_replaceable(const std::filesystem::path& path) {
  check_target(resolved(path));
}

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(resolved(path)) {
  static std::atomic<unsigned> counter{0};
  require<IoError>(path_.has_filename(), "{}: must name a file to write", path_.string());
  check_target(path_);
  const auto folder = folder_of(path_);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require<IoError>(!error, "{}: its folder cannot be made: {}", path_.string(), error.message());
  const std::string prefix = fmt::format(".{}.", path_.filename().string());
  remove_stale(folder, prefix);
  int reason = EEXIST;
  for (int attempt = 0; attempt < 100 && descriptor_ < 0 && reason == EEXIST; ++attempt) {
    aside_ = folder / fmt::format("{}{}-{}.tmp", prefix, ::getpid(), counter++);
    descriptor_ = create_locked(aside_);
    reason = errno;
  }
  if (descriptor_ < 0) {
    aside_.clear();
    fail("be created", reason);
  }
  take_permissions(descriptor_, path_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!aside_.empty()) ::unlink(aside_.c_str());
}

void AtomicFile::fail(const char* action, int error) {
  const char* advice =
      error == ENOSPC || error == EDQUOT || error == EFBIG ? "; free some space and try again" : "";
  throw IoError(fmt::format("{}: could not {}: {}{} (what was there before is unchanged)", path_.string(),
                            action, std::generic_category().message(error), advice));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  require<IoError>(descriptor_ >= 0, "{}: is committed already; nothing more can be written", path_.string());
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMostWritten));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("be written", errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::restrict_permissions(unsigned mode) {
  struct stat status {};
  const unsigned others = 077U & ~mode;
  if (::fstat(descriptor_, &status) != 0 || ::fchmod(descriptor_, status.st_mode & 0777U & ~others) != 0)
    fail("be kept as private as what it is copied from", errno);
}

void AtomicFile::flush() {
  require<IoError>(descriptor_ >= 0, "{}: is committed already", path_.string());
  if (::fsync(descriptor_) != 0) fail("be flushed to disk", errno);
}

void AtomicFile::commit() {
  flush();
  rename();
  flush_folder(folder_of(path_));
}

std::filesystem::path AtomicFile::leave_aside() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  return std::exchange(aside_, {});
}

void AtomicFile::rename() {
  // Renamed before it is closed: the lock goes with the descriptor.
  if (::rename(aside_.c_str(), path_.c_str()) != 0) fail("be put in place", errno);
  aside_.clear();
  ::close(descriptor_);
  descriptor_ = -1;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void copy_file_atomically(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto unreadable = [&] {
    return IoError(
        fmt::format("{}: cannot be read: {}", from.string(), std::generic_category().message(errno)));
  };
  const Descriptor in(::open(from.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!in.open() || ::fstat(in.value(), &status) != 0) throw unreadable();
  require<IoError>(S_ISREG(status.st_mode), "{}: must be a regular file to be copied", from.string());
  AtomicFile out(to);
  out.restrict_permissions(status.st_mode);
  std::vector<std::byte> buffer(std::size_t{1} << 20U);
  for (;;) {
    const ssize_t got = ::read(in.value(), buffer.data(), buffer.size());
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw unreadable();
    out.write(std::span(buffer.data(), static_cast<std::size_t>(got)));
  }
  out.commit();
}

}  // namespace candela
