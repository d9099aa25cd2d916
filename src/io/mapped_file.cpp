#include "io/mapped_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/error.h>

namespace candela::io {

MappedFile::MappedFile(const std::filesystem::path& path) {
  struct Descriptor {
    int value;
    ~Descriptor() {
      if (value >= 0) ::close(value);
    }
  };
  const auto reason = [] { return std::generic_category().message(errno); };
  // Non-blocking, so that a named pipe is refused below instead of waited for.
  const Descriptor descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (descriptor.value < 0)
    throw IoError(fmt::format("{}: cannot be opened: {}; check the path", path.string(), reason()));
  struct stat status {};
  if (::fstat(descriptor.value, &status) != 0)
    throw IoError(fmt::format("{}: cannot be read: {}", path.string(), reason()));
  require<IoError>(S_ISREG(status.st_mode), "{}: must be a regular file", path.string());
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor.value, 0);
  if (address == MAP_FAILED) throw IoError(fmt::format("{}: cannot be mapped: {}", path.string(), reason()));
  data_ = static_cast<std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

}  // namespace candela::io
