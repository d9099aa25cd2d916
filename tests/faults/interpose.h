#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Stands between the program and the system: makes the n-th allocation or system call fail, kills the
/// process at it, or records what is done to a folder. Linked into a test, or loaded in front of a binary
/// (LD_PRELOAD) that reads the plan from CANDELA_FAULT, "CALL:N[+]:ERRNO", ERRNO 0: kill; N+: from the n-th
/// on.
namespace candela::faults {

enum class Call {
  Allocate,
  Open,
  Write,
  Fsync,
  Rename,
  Unlink,
  Mkdir,
  Mmap,
  Ftruncate,
  /// any call that changes a file or folder: what a process can be killed at
  Change,
  kCount,
};

/// `call` number `at` (from 1) ends in `error`; 0: SIGKILL. With `onwards`, so do all behind it.
void arm(Call call, long at, bool onwards, int error);
/// Counts only, from 0.
void count();
/// Stops both. The calls of this kind since then.
long disarm(Call call);

/// While it lives, nothing fails on this thread, and nothing counts.
class Pause {
 public:
  Pause();
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
  ~Pause();
};

/// What was done to a file or folder, by inode: names move.
struct Operation {
  enum class Kind { Create, MakeFolder, Write, Truncate, Rename, Exchange, Remove, Flush };
  Kind kind = Kind::Flush;
  /// what it was done to
  std::uint64_t inode = 0;
  /// the folder that has, or gets, the name
  std::uint64_t folder = 0;
  /// in `folder`
  std::string name;
  /// of Rename and Exchange
  std::uint64_t from_folder = 0;
  std::string from_name;
  /// by Exchange
  std::uint64_t replaced = 0;
  /// of Write; the length of Truncate
  std::uint64_t offset = 0;
  /// of Write
  std::string bytes;
};

/// Records what happens at and below `folder` until recorded().
void record(const std::string& folder);
std::vector<Operation> recorded();

}  // namespace candela::faults
