#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace candela {

/// A file that appears whole or not at all: it is written aside in the same folder, flushed to disk, and
/// renamed onto `path` by commit(), with the permissions of the file that it replaces. Without commit(), or
/// after any error, what was at `path` before is untouched and nothing is left behind.
///
/// A process that is killed leaves what it wrote aside; the next AtomicFile for the same path removes it. A
/// limit on the size of files (ulimit -f) is an error like a full disk only in a process that ignores
/// SIGXFSZ. An object is for one thread; others may write other files, or the same: the last commit stays.
class AtomicFile {
 public:
  /// Creates missing parent folders. IoError if the folder cannot be written, or as check_replaceable().
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Appends. IoError (a full disk, for one) names the file and the reason.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Takes from group and others what `mode`, that of another file, does not give them.
  void restrict_permissions(unsigned mode);
  /// Brings everything written so far to disk. Files that belong together are all flushed before the first is
  /// committed: after that, little can fail.
  void flush();
  /// Flushes and puts the file in place, and that lasts through a loss of power. No more writes after it.
  void commit();
  /// The last step of commit() alone, for files that were flushed, and whose owner flushes their folder.
  void rename();
  /// Gives the file up without removing it: where it is.
  std::filesystem::path leave_aside();

 private:
  [[noreturn]] void fail(const char* action, int error);

  std::filesystem::path path_;
  std::filesystem::path aside_;
  int descriptor_ = -1;
};

/// IoError unless an AtomicFile may take the place of what `path` leads to: a regular file, or nothing yet. A
/// device, pipe, socket or folder would be gone after the rename. For whoever wants to know before the work.
void check_replaceable(const std::filesystem::path& path);

/// Makes the renames and removals in `folder` last through a loss of power; best effort, as some file systems
/// cannot.
void flush_folder(const std::filesystem::path& folder);

/// AtomicFile in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);
/// A copy of the bytes of `from`, a regular file, with the permissions of a new file, but no more for group
/// and others than `from` gives them.
void copy_file_atomically(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace candela
