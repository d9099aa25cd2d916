#include "core/folders.h"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

namespace candela {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using FolderStream = std::unique_ptr<DIR, CloseFolder>;

/// The next entry that is neither the folder itself nor its parent; null at the end, errno then says why.
const dirent* next_of(DIR* folder) {
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(folder);
    if (entry == nullptr) return nullptr;
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) return entry;
  }
}

/// 0, or errno of the first failure.
int remove_at(int parent, const char* name) {
  if (::unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
  const int first = errno;  // Linux says EISDIR of a folder, others EPERM
  const int descriptor = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (descriptor < 0) return errno == ENOTDIR ? first : errno;
  const FolderStream folder(::fdopendir(descriptor));
  if (!folder) {
    const int error = errno;
    ::close(descriptor);
    return error;
  }
  int error = 0;
  while (const dirent* const entry = next_of(folder.get())) {
    const int failed = remove_at(::dirfd(folder.get()), entry->d_name);
    if (error == 0) error = failed;
  }
  return error != 0 || ::unlinkat(parent, name, AT_REMOVEDIR) == 0 ? error : errno;
}

}  // namespace

std::vector<std::string> names_in(const std::filesystem::path& folder, std::error_code& error) {
  std::vector<std::string> names;
  error.clear();
  const FolderStream stream(::opendir(folder.c_str()));
  if (stream) {
    while (const dirent* const entry = next_of(stream.get())) names.emplace_back(entry->d_name);
  }
  if (errno != 0) error.assign(errno, std::generic_category());
  return error ? std::vector<std::string>() : names;
}

std::error_code remove_tree(const std::filesystem::path& path) noexcept {
  return {remove_at(AT_FDCWD, path.c_str()), std::generic_category()};
}

}  // namespace candela
