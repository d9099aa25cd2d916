#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/atomic_folder.h>
#include <candela/core/error.h>

#include "core/folders.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// The part of a name that makes it this process's own: "PID-N".
std::string own_part() {
  static std::atomic<unsigned> counter{0};
  return fmt::format("{}-{}", ::getpid(), counter++);
}

/// Whether `part` is "DIGITS-DIGITS".
bool is_own_part(std::string_view part) {
  constexpr std::string_view kDigits = "0123456789";
  const std::size_t dash = part.find('-');
  return dash != std::string_view::npos && dash > 0 && dash + 1 < part.size() &&
         part.substr(0, dash).find_first_not_of(kDigits) == std::string_view::npos &&
         part.substr(dash + 1).find_first_not_of(kDigits) == std::string_view::npos;
}

std::string aside_prefix(const fs::path& target) {
  return fmt::format(".{}.", target.filename().string());
}

Descriptor open_folder(const fs::path& folder) {
  return Descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/// Removes what killed processes left of this target: folders that nobody holds a lock on.
void remove_stale(const fs::path& target) {
  const std::string prefix = aside_prefix(target);
  constexpr std::string_view kEnd = ".tmp";
  std::error_code error;  // a folder that cannot be read keeps what is left over in it
  for (const std::string& name : names_in(parent_of(target), error)) {
    if (!name.starts_with(prefix) || !name.ends_with(kEnd)) continue;
    if (!is_own_part(std::string_view(name).substr(prefix.size(), name.size() - prefix.size() - kEnd.size())))
      continue;
    const fs::path path = parent_of(target) / name;
    const Descriptor folder = open_folder(path);
    if (!folder.open() || ::flock(folder.value(), LOCK_EX | LOCK_NB) != 0) continue;
    remove_tree(path);
  }
}

/// Makes `folder` and locks it in `lock`; 0, else errno: EEXIST if another process took it for left over in
/// between. Some file systems have no locks: the folder is good without.
int make_locked(const fs::path& folder, Descriptor& lock) {
  if (::mkdir(folder.c_str(), 0777) != 0) return errno;
  lock = open_folder(folder);
  struct stat status {};
  if (!lock.open() || ::fstat(lock.value(), &status) != 0) return errno == ENOENT ? EEXIST : errno;
  const bool taken = ::flock(lock.value(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  return taken || ::fstat(lock.value(), &status) != 0 || status.st_nlink == 0 ? EEXIST : 0;
}

/// Exchanges two folders in one step; false where the system or the file system cannot.
bool exchange(const fs::path& a, const fs::path& b) {
#if defined(__linux__) && defined(RENAME_EXCHANGE)
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  static_cast<void>(a);
  static_cast<void>(b);
  return false;
#endif
}

}  // namespace

AtomicFolder::AtomicFolder(const fs::path& target) : target_(target.lexically_normal()) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "out/" ends in an empty name
  require<IoError>(target_.has_filename() && target_.filename() != "..", "{}: must name a folder to write",
                   target.string());
  const fs::path parent = parent_of(target_);
  std::vector<fs::path> missing = missing_folders(parent);
  std::error_code error;
  fs::create_directories(parent, error);
  made_ = std::move(missing);
  if (error) {
    const int reason = error.value();
    for (const fs::path& made : made_) ::rmdir(made.c_str());
    fail("have its parent folder made", reason);
  }
  remove_stale(target_);
  int reason = EEXIST;
  for (int attempt = 0; attempt < 100 && reason == EEXIST; ++attempt) {
    aside_ = parent / fmt::format("{}{}.tmp", aside_prefix(target_), own_part());
    reason = make_locked(aside_, lock_);
  }
  if (reason != 0) {
    for (const fs::path& made : made_) ::rmdir(made.c_str());
    fail("be created", reason);
  }
}

AtomicFolder::~AtomicFolder() {
  if (!aside_.empty()) remove_tree(aside_);
  lock_.reset();
  for (const fs::path& made : made_) ::rmdir(made.c_str());  // fails where something is in it
}

void AtomicFolder::fail(const char* action, int error) const {
  throw IoError(fmt::format("{}: could not {}: {} (what was there before is unchanged)", target_.string(),
                            action, std::generic_category().message(error)));
}

void AtomicFolder::finish() {
  aside_.clear();
  made_.clear();
  flush_folder(parent_of(target_));
}

void AtomicFolder::commit() {
  require<IoError>(!aside_.empty(), "{}: is committed already", target_.string());
  flush_folder(aside_);
  if (::rename(aside_.c_str(), target_.c_str()) != 0) {
    const bool taken = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR;
    require<IoError>(!taken, "{}: must be absent or an empty folder; choose another", target_.string());
    fail("be put in place", errno);
  }
  finish();
}

void AtomicFolder::replace() {
  require<IoError>(!aside_.empty(), "{}: is committed already", target_.string());
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(target_, error))) return commit();
  flush_folder(aside_);
  if (exchange(aside_, target_)) {
    const fs::path old = aside_;
    finish();
    remove_tree(old);
    return;
  }
  const std::string why = remove_folder_whole(target_);
  require<IoError>(why.empty(), "{}", why);
  commit();
}

std::string remove_folder_whole(const fs::path& folder) {
  const fs::path going = parent_of(folder) / fmt::format("{}{}.tmp", aside_prefix(folder), own_part());
  std::error_code error;
  fs::rename(folder, going, error);
  if (error == std::errc::no_such_file_or_directory) return {};
  const fs::path& at = error ? folder : going;
  if (!error) error = remove_tree(going);
  return error ? fmt::format("{}: could not be removed: {}", at.string(), error.message()) : std::string();
}

}  // namespace candela
