#include "faults/inode.h"

#include <algorithm>
#include <sys/stat.h>
#include <unistd.h>

namespace candela::faults {

std::uint64_t inode_of(const char* path) {
  struct stat status {};
  return ::lstat(path, &status) == 0 ? status.st_ino : 0;
}

std::uint64_t inode_of(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

std::uint64_t position_of(int descriptor) {
  return static_cast<std::uint64_t>(std::max<off_t>(::lseek(descriptor, 0, SEEK_CUR), 0));
}

}  // namespace candela::faults
