#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/error.h>
#include <candela/io/atomic_file.h>

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

/// Makes a rename in `folder` last; best effort, as some file systems cannot.
void flush_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(resolved(path)) {
  static std::atomic<unsigned> counter{0};
  require<IoError>(path_.has_filename(), "{}: must name a file to write", path_.string());
  const auto folder = folder_of(path_);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require<IoError>(!error, "{}: its folder cannot be made: {}", path_.string(), error.message());
  int reason = EEXIST;
  for (int attempt = 0; attempt < 100 && descriptor_ < 0 && reason == EEXIST; ++attempt) {
    aside_ = folder / fmt::format(".{}.{}-{}.tmp", path_.filename().string(), ::getpid(), counter++);
    descriptor_ = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    reason = errno;
  }
  if (descriptor_ < 0) {
    aside_.clear();
    fail("be created", reason);
  }
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
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
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

void AtomicFile::commit() {
  require<IoError>(descriptor_ >= 0, "{}: is committed already", path_.string());
  if (::fsync(descriptor_) != 0) fail("be flushed to disk", errno);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) fail("be closed", errno);
  if (::rename(aside_.c_str(), path_.c_str()) != 0) fail("be put in place", errno);
  aside_.clear();
  flush_folder(folder_of(path_));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace candela
