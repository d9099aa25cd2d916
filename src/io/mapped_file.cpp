#include "io/mapped_file.h"

#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/descriptor.h>
#include <candela/core/error.h>

#include "io/missing.h"

namespace candela::io {
namespace {

// What is written stays rare: without this flag, a file larger than memory and swap could not be mapped.
#if defined(MAP_NORESERVE)
constexpr int kPrivate = MAP_PRIVATE | MAP_NORESERVE;
#else
constexpr int kPrivate = MAP_PRIVATE;
#endif

/// Maps `bytes` of the file at a multiple of MappedFile::kAlignment. The whole of the last aligned piece
/// belongs to the mapping: beyond the end of the file it is zero. Returns MAP_FAILED with errno set.
void* map_aligned(int descriptor, std::size_t bytes, void*& reserved, std::size_t& reserved_bytes) {
  constexpr std::size_t kAlignment = MappedFile::kAlignment;
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  if (static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) >= kAlignment) {
    reserved_bytes = bytes;
    reserved = ::mmap(nullptr, bytes, kProtection, kPrivate, descriptor, 0);
    return reserved;
  }
  // Smaller pages: address space with room to choose an aligned start in, and the file over its middle.
  reserved_bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  reserved = ::mmap(nullptr, reserved_bytes, kProtection, kPrivate | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return MAP_FAILED;
  std::size_t room = reserved_bytes;
  void* start = reserved;
  std::align(kAlignment, bytes, start, room);
  void* mapped = ::mmap(start, bytes, kProtection, kPrivate | MAP_FIXED, descriptor, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    ::munmap(reserved, reserved_bytes);
    errno = error;
  }
  return mapped;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto reason = [] { return std::generic_category().message(errno); };
  // Non-blocking, so that a named pipe is refused below instead of waited for.
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor.open()) throw IoError(fmt::format("{}: {}", path.string(), why_not_opened(errno)));
  struct stat status {};
  if (::fstat(descriptor.value(), &status) != 0)
    throw IoError(fmt::format("{}: cannot be read: {}", path.string(), reason()));
  require<IoError>(S_ISREG(status.st_mode), "{}: must be a regular file", path.string());
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* address = map_aligned(descriptor.value(), size_, reserved_, reserved_bytes_);
  if (address == MAP_FAILED) throw IoError(fmt::format("{}: cannot be mapped: {}", path.string(), reason()));
  data_ = static_cast<std::byte*>(address);
}

void MappedFile::release(std::size_t offset, std::size_t bytes) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t first = (offset + page - 1) / page * page;
  const std::size_t last = (offset + bytes) / page * page;
  if (first < last) ::madvise(data_ + first, last - first, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(reserved_, reserved_bytes_);
}

}  // namespace candela::io
