#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <candela/core/descriptor.h>

namespace candela {

/// A folder that appears whole or not at all: its files are written into path(), aside in the same parent
/// folder, and commit() puts all of them in place with one rename. Without commit(), or after any error, what
/// was at the target before is untouched and nothing is left behind, folders made for it included.
///
///     AtomicFolder folder("out/checkpoint-8");
///     write_file_atomically(folder.path() / "state.json", text);  // flushed to disk file by file
///     folder.commit();
///
/// The folder aside is .NAME.PID-N.tmp, locked while its process lives. What a killed process leaves of one
/// is removed by the next AtomicFolder for the same target. An object is for one thread at a time; several
/// threads may make the same target: each commit() finds it absent, or is an IoError.
class AtomicFolder {
 public:
  /// Creates missing parents. IoError if the parent cannot be written.
  explicit AtomicFolder(const std::filesystem::path& target);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();

  /// Where the files are written until commit().
  const std::filesystem::path& path() const { return aside_; }
  /// Flushes the folder and puts it in place. The target must be absent or an empty folder: IoError
  /// otherwise, and for any other failure. Afterwards it lasts through a loss of power.
  void commit();
  /// As commit(), and a folder at the target goes: exchanged with the new one in one step where the system
  /// can, else moved aside first. It is removed in full before this returns.
  void replace();

 private:
  [[noreturn]] void fail(const char* action, int error) const;
  void finish();

  std::filesystem::path target_;
  std::filesystem::path aside_;
  std::vector<std::filesystem::path> made_;  // parents, the innermost first
  Descriptor lock_;
};

/// Removes a folder with all that is in it, first under a name that no one takes for it: whenever the process
/// is killed, a folder called `folder` is whole. Returns what could not be removed and why; empty: it is
/// gone.
std::string remove_folder_whole(const std::filesystem::path& folder);

}  // namespace candela
