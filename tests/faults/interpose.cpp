#include "faults/interpose.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstring>
#include <optional>
#include <set>
#include <sys/syscall.h>

#include "faults/inode.h"

// Neither <unistd.h> nor <fcntl.h>: they declare what is defined here, each C library in its own way.
extern "C" {
long syscall(long number, ...);
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* old, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
}

namespace candela::faults {
namespace {

constexpr int kHere = -100;           // AT_FDCWD
constexpr int kCreate = 0100;         // O_CREAT
constexpr int kRemoveFolder = 0x200;  // AT_REMOVEDIR
constexpr unsigned kExchange = 2;     // RENAME_EXCHANGE
constexpr auto kCalls = static_cast<std::size_t>(Call::kCount);

struct Plan {
  std::atomic<bool> on{false};
  Call call = Call::Allocate;
  long at = 0;
  bool onwards = false;
  int error = 0;
};

Plan plan;
std::atomic<bool> counting{false};
std::array<std::atomic<long>, kCalls> counts{};

thread_local int pauses = 0;

/// The error that this call is to end in; 0: none.
int fault_of(Call call) {
  if (!counting.load(std::memory_order_relaxed) || pauses > 0) return 0;
  const long number = ++counts[static_cast<std::size_t>(call)];
  if (!plan.on || plan.call != call || !(plan.onwards ? number >= plan.at : number == plan.at)) return 0;
  if (plan.error == 0) syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  return plan.error;
}

bool fails(Call call) {
  const int error = fault_of(call);
  if (error != 0) errno = error;
  return error != 0;
}

/// A call that changes something counts twice: as what it is, and as a change.
bool fails_changing(Call call) {
  return fails(call) || fails(Call::Change);
}

/// What the folder under observation holds, by inode.
struct Recorder {
  std::string root;
  std::set<std::uint64_t> inodes;
  std::vector<Operation> operations;
};
std::optional<Recorder> recorder;

bool below_root(const char* path) {
  return recorder && std::strncmp(path, recorder->root.c_str(), recorder->root.size()) == 0;
}

std::uint64_t folder_of(const std::string& path) {
  return inode_of(path.substr(0, path.rfind('/')).c_str());
}

std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

void add(Operation operation) {
  recorder->inodes.insert(operation.inode);
  recorder->operations.push_back(std::move(operation));
}

void note_made(Operation::Kind kind, const char* path) {
  add({kind, inode_of(path), folder_of(path), name_of(path), 0, {}, 0, 0, {}});
}

int open_at(int folder, const char* path, int flags, unsigned mode) {
  const bool creates = (flags & kCreate) != 0;
  if (creates ? fails_changing(Call::Open) : fails(Call::Open)) return -1;
  const bool made = creates && below_root(path) && inode_of(path) == 0;
  const auto result = static_cast<int>(syscall(SYS_openat, folder, path, flags, mode));
  if (made && result >= 0) note_made(Operation::Kind::Create, path);
  return result;
}

int rename_at(const char* from, const char* to, unsigned flags) {
  if (fails_changing(Call::Rename)) return -1;
  const bool noted = below_root(from);
  const std::uint64_t inode = noted ? inode_of(from) : 0;
  const std::uint64_t replaced = noted ? inode_of(to) : 0;
  const auto result = static_cast<int>(syscall(SYS_renameat2, kHere, from, kHere, to, flags));
  if (noted && result == 0) {
    const auto kind = (flags & kExchange) != 0 ? Operation::Kind::Exchange : Operation::Kind::Rename;
    add({kind, inode, folder_of(to), name_of(to), folder_of(from), name_of(from), replaced, 0, {}});
  }
  return result;
}

int remove_at(int folder, const char* path, int flags) {
  if (fails_changing(Call::Unlink)) return -1;
  // libstdc++ and remove_tree() remove trees by descriptors; the recorder looks at no such calls.
  const bool noted = (path[0] == '/' || folder == kHere) && below_root(path);
  Operation gone{Operation::Kind::Remove, 0, 0, {}, 0, {}, 0, 0, {}};
  if (noted)
    gone = {Operation::Kind::Remove, inode_of(path), folder_of(path), name_of(path), 0, {}, 0, 0, {}};
  const auto result = static_cast<int>(syscall(SYS_unlinkat, folder, path, flags));
  if (noted && result == 0) add(std::move(gone));
  return result;
}

void* allocate(std::size_t alignment, std::size_t bytes) {
  if (fails(Call::Allocate)) return nullptr;
  return alignment == 0 ? __libc_malloc(bytes) : __libc_memalign(alignment, bytes);
}

void* map(void* address, std::size_t bytes, int protection, int flags, int descriptor, long offset) {
  if (fails(Call::Mmap)) return reinterpret_cast<void*>(-1);
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, bytes, protection, flags, descriptor, offset));
}

int truncate_at(int descriptor, long length) {
  if (fails_changing(Call::Ftruncate)) return -1;
  const auto result = static_cast<int>(syscall(SYS_ftruncate, descriptor, length));
  if (recorder && result == 0 && recorder->inodes.count(inode_of(descriptor)) > 0)
    add({Operation::Kind::Truncate,
         inode_of(descriptor),
         0,
         {},
         0,
         {},
         0,
         static_cast<std::uint64_t>(length),
         {}});
  return result;
}

}  // namespace

Pause::Pause() {
  ++pauses;
}

Pause::~Pause() {
  --pauses;
}

void arm(Call call, long at, bool onwards, int error) {
  plan.call = call;
  plan.at = at;
  plan.onwards = onwards;
  plan.error = error;
  plan.on = true;
  count();
}

void count() {
  for (auto& number : counts) number = 0;
  counting = true;
}

long disarm(Call call) {
  counting = false;
  plan.on = false;
  return counts[static_cast<std::size_t>(call)];
}

void record(const std::string& folder) {
  recorder.emplace();
  recorder->root = folder;
}

std::vector<Operation> recorded() {
  std::vector<Operation> operations = std::move(recorder->operations);
  recorder.reset();
  return operations;
}

}  // namespace candela::faults

using namespace candela::faults;

// The C++ library must find these too, whatever the build hides.
#pragma GCC visibility push(default)
extern "C" {

void* malloc(std::size_t bytes) {
  return allocate(0, bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  return fails(Call::Allocate) ? nullptr : __libc_calloc(count, bytes);
}
void* realloc(void* old, std::size_t bytes) {
  return fails(Call::Allocate) ? nullptr : __libc_realloc(old, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  return allocate(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  return allocate(alignment, bytes);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) {
  *result = allocate(alignment, bytes);
  return *result == nullptr ? ENOMEM : 0;
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = va_arg(arguments, unsigned);
  va_end(arguments);
  return open_at(kHere, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = va_arg(arguments, unsigned);
  va_end(arguments);
  return open_at(kHere, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = va_arg(arguments, unsigned);
  va_end(arguments);
  return open_at(folder, path, flags, mode);
}

long write(int descriptor, const void* bytes, std::size_t size) {
  if (fails_changing(Call::Write)) return -1;
  const std::uint64_t inode = recorder ? inode_of(descriptor) : 0;
  const bool noted = recorder && recorder->inodes.count(inode) > 0;
  const std::uint64_t offset = noted ? position_of(descriptor) : 0;
  const long written = syscall(SYS_write, descriptor, bytes, size);
  if (noted && written > 0)
    add({Operation::Kind::Write,
         inode,
         0,
         {},
         0,
         {},
         0,
         offset,
         std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(written))});
  return written;
}

int fsync(int descriptor) {
  if (fails_changing(Call::Fsync)) return -1;
  const auto result = static_cast<int>(syscall(SYS_fsync, descriptor));
  if (recorder && result == 0) add({Operation::Kind::Flush, inode_of(descriptor), 0, {}, 0, {}, 0, 0, {}});
  return result;
}

int rename(const char* from, const char* to) {
  return rename_at(from, to, 0);
}
int renameat2(int, const char* from, int, const char* to, unsigned flags) {
  return rename_at(from, to, flags);
}

int unlink(const char* path) {
  return remove_at(kHere, path, 0);
}
int unlinkat(int folder, const char* path, int flags) {
  return remove_at(folder, path, flags);
}
int rmdir(const char* path) {
  return remove_at(kHere, path, kRemoveFolder);
}
int remove(const char* path) {
  const int result = remove_at(kHere, path, 0);
  return result != 0 && (errno == EISDIR || errno == EPERM) ? remove_at(kHere, path, kRemoveFolder) : result;
}

int mkdir(const char* path, unsigned mode) {
  if (fails_changing(Call::Mkdir)) return -1;
  const auto result = static_cast<int>(syscall(SYS_mkdirat, kHere, path, mode));
  if (result == 0 && below_root(path)) note_made(Operation::Kind::MakeFolder, path);
  return result;
}

int ftruncate(int descriptor, long length) {
  return truncate_at(descriptor, length);
}

void* mmap(void* address, std::size_t bytes, int protection, int flags, int descriptor, long offset) {
  return map(address, bytes, protection, flags, descriptor, offset);
}
void* mmap64(void* address, std::size_t bytes, int protection, int flags, int descriptor, long offset) {
  return map(address, bytes, protection, flags, descriptor, offset);
}
}
#pragma GCC visibility pop
