#pragma once
// The execution of one kernel on one OS thread: its threadgroups one after the other, the threads of a group
// as fibers. Internal to the stand-in: translated shaders and the stand-in for metal_stdlib use it.

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "../kernel.h"
#include "fiber.h"

namespace emulator {

/// Memory that a checked pointer may reach: a binding, a threadgroup argument or a threadgroup variable.
struct Region {
  std::byte* base = nullptr;
  std::size_t bytes = 0;
  ArgumentKind kind = ArgumentKind::Device;
  std::uint32_t index = 0;  // of the buffer or threadgroup argument; kMaxBuffers or above: a variable
  const char* name = "";
  BufferTraffic* traffic = nullptr;  // where accesses are counted, if they are
};

/// Where in a shader something was called.
struct Site {
  const char* file = "";
  int line = 0;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  friend bool operator==(const Site& a, const Site& b) { return a.line == b.line && a.file == b.file; }
};

/// What a thread learns of its place.
struct ThreadIds {
  Size3 in_grid, in_group;
  std::uint32_t index = 0;  // in the group
};

/// What a group learns of its place.
struct GroupIds {
  Size3 position;      // of the group in the grid of groups
  Size3 size;          // threads, smaller at the edge of an exact grid
  Size3 nominal_size;  // threads as dispatched
  Size3 groups;
  Size3 grid;  // threads
};

inline constexpr std::size_t kSlotBytes = 32;  // a vector of four 64-bit numbers
inline constexpr std::size_t kMaxShared = 64;  // threadgroup variables of a kernel

/// One threadgroup variable of a kernel, and all of them; filled in before main by the generated code.
struct SharedVariable {
  std::size_t offset = 0, bytes = 0;
  const char* name = "";
};
struct SharedLayout {
  std::array<SharedVariable, kMaxShared> variables{};
  std::size_t count = 0, bytes = 0;
  /// Reserves memory, aligned to 16 bytes, and returns the number of the variable.
  std::size_t add(const char* name, std::size_t bytes_needed);
};

/// What the lanes of a simdgroup give each other. Two sets, used in turn, so that a lane that is already at
/// the next operation does not overwrite what a slower lane has still to read.
struct SimdExchange {
  alignas(64) std::array<std::array<std::byte, kSlotBytes>, kSimdWidth> slots;
  std::uint32_t active = 0;  // mask of the lanes that took part
  bool reduced = false;      // the slots already hold the result of a collective operation
};

/// An 8 x 8 matrix that all lanes know, row-major. The lane that first comes to operation `sequence` makes
/// it; the others find it there. `signature` is what the operation was called with, which must be the same in
/// all lanes.
struct SharedMatrix {
  std::uint64_t sequence = 0;
  std::uint64_t signature = 0;
  alignas(64) std::array<float, 64> values;
};

// Matrix operations do not wait for the other lanes, which may therefore lag behind. A matrix stays valid for
// as many further ones as is said here, and then a lane waits, so that the fastest never overwrites what the
// slowest may use: lag + life + 8 < ring.
inline constexpr std::uint64_t kOperandRing = 256, kOperandLag = 120, kOperandLife = 120;
inline constexpr std::uint64_t kProductRing = 32, kProductLag = 16;

struct SimdGroup {
  std::uint32_t alive = 0;    // mask of lanes that have not returned
  std::uint32_t waiting = 0;  // mask of lanes that wait in the operation below
  const char* operation = "";
  Site site;
  std::uint64_t argument = 0;
  std::uint64_t trace = 0;
  std::array<SimdExchange, 2> exchange;
  std::array<SharedMatrix, kOperandRing> operands;
  std::array<SharedMatrix, kProductRing> products;
};

/// A launch as all OS threads see it; implemented in grid.cpp.
class Job;

struct Launch {
 public:
  Launch();
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  /// Runs groups of the job until none is left or a fault is found, whose text is returned ("" if none).
  std::string run(Job& job);

  // --- for generated entries
  /// Ends the thread that ran on this fiber and takes up the next one; false if there is nothing left to
  /// start.
  bool next_thread(ThreadIds& ids);
  const GroupIds& group() const { return group_; }
  const Region& buffer(std::uint32_t index) const { return buffers_[index]; }
  const Region& threadgroup_argument(std::uint32_t index) const { return threadgroup_arguments_[index]; }
  const Region& shared(std::size_t index) const { return shared_[index]; }
  const Kernel& kernel() const { return *kernel_; }

  // --- for the stand-in for metal_stdlib
  std::uint32_t lane() const { return current_ % kSimdWidth; }
  bool simdgroup_is_full() const { return current_ / kSimdWidth * kSimdWidth + kSimdWidth <= thread_count_; }
  SimdGroup& simdgroup() { return simdgroups_[current_ / kSimdWidth]; }
  /// The set of slots that the next SIMD operation of the running lane uses; alternates.
  SimdExchange& next_exchange() { return simdgroup().exchange[threads_[current_].simd_count++ & 1]; }
  /// Waits for the other lanes. True for the lane that came last. `argument` must be the same in all lanes.
  bool meet_simdgroup(const char* operation, const Site& site, std::uint64_t argument);
  void meet_threadgroup(const Site& site);
  /// The next operand or product of the running lane's simdgroup; `made` says whether a faster lane has made
  /// it already.
  SharedMatrix& next_operand(std::uint64_t signature, const Site& site, bool& made);
  SharedMatrix& next_product(std::uint64_t signature, const Site& site, bool& made);
  /// An operand that was made before; nullptr if it is too old to be there still.
  const SharedMatrix* operand(std::uint64_t sequence) {
    const std::uint64_t age = threads_[current_].operands - sequence;
    return sequence == 0 || age > kOperandLife ? nullptr : &simdgroup().operands[sequence % kOperandRing];
  }
  /// Notes an operation that needs no waiting but must be called by all lanes with the same arguments.
  void note_collective(std::uint64_t value) {
    std::uint64_t& trace = threads_[current_].trace;
    trace = (trace ^ value) * 0x9e3779b97f4a7c15u;
  }
  /// Counts the load of an 8 x 8 matrix, `words` its 64 elements' addresses in words of 4 bytes.
  bool counts_traffic() const { return counts_traffic_; }
  void count_matrix_load(const std::array<std::uintptr_t, 64>& words);
  /// The region that holds this address; nullptr if none does.
  const Region* find_region(const void* address) const;

  [[noreturn]] void fault(std::string what);
  [[noreturn]] void fault_access(const Region* region, std::uintptr_t address, std::size_t bytes);
  [[noreturn]] void fault_alignment(const Region* region, std::uintptr_t address, std::size_t alignment,
                                    const char* verb);

 private:
  struct Thread {
    Fiber* fiber = nullptr;
    std::uint32_t simd_count = 0;
    std::uint64_t trace = 0;
    std::uint64_t operands = 0, products = 0;          // matrices made so far
    std::uint64_t met_operands = 0, met_products = 0;  // and when this lane last met the others
    void meet() {
      met_operands = operands;
      met_products = products;
    }
  };
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  static void fiber_main();
  void bind(Job& job);
  void begin_group(std::uint64_t number);
  bool begin_next_group();
  void arrange();
  void finish(std::uint32_t thread);
  void release_lanes(std::uint32_t group, std::uint32_t except);
  void block();
  void retire();
  void go_to(Fiber& fiber);
  void push_ready(std::uint32_t thread) {
    ready_[ready_tail_++ % kMaxThreadsPerThreadgroup] = static_cast<std::uint16_t>(thread);
  }
  void push_ready_front(std::uint32_t thread) {
    ready_[--ready_head_ % kMaxThreadsPerThreadgroup] = static_cast<std::uint16_t>(thread);
  }
  Fiber& idle_fiber();
  SharedMatrix& take(SharedMatrix& matrix, std::uint64_t sequence, std::uint64_t signature, const Site& site,
                     bool& made);
  void check_traces();
  [[noreturn]] void fault_trace(std::uint32_t simdgroup);
  std::byte* threadgroup_memory();
  std::string position_of(std::uint32_t thread) const;
  std::string deadlock() const;

  const Kernel* kernel_ = nullptr;
  Job* job_ = nullptr;
  bool counts_traffic_ = false;
  Traffic traffic_;
  std::array<Region, kMaxBuffers> buffers_;
  std::array<Region, kMaxThreadgroupArguments> threadgroup_arguments_;
  std::array<Region, kMaxShared> shared_;
  std::size_t shared_count_ = 0, threadgroup_bytes_ = 0;
  std::unique_ptr<std::byte[]> threadgroup_storage_;

  GroupIds group_;
  std::uint64_t first_sequence_ = 0;  // no matrix of an earlier group has a greater one
  std::uint32_t thread_count_ = 0, fresh_ = 0, returned_ = 0, last_returned_ = 0;
  std::array<std::uint16_t, kMaxThreadsPerThreadgroup> order_;
  std::array<std::uint16_t, kMaxThreadsPerThreadgroup> ready_;
  std::uint32_t ready_head_ = 0, ready_tail_ = 0;
  std::uint32_t order_count_ = 0;  // threads that order_ was made for
  std::uint64_t shuffle_state_ = 0;

  std::uint32_t current_ = kNone;
  std::uint32_t at_barrier_ = 0;
  Site barrier_site_;
  std::uint32_t barrier_first_ = 0;
  std::array<Thread, kMaxThreadsPerThreadgroup> threads_;
  std::array<SimdGroup, kMaxThreadsPerThreadgroup / kSimdWidth> simdgroups_;

  Fiber main_;
  Fiber* current_fiber_ = &main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::string fault_;
};

/// Adds to what `take_traffic` gives.
void add_traffic(std::string_view kernel, const Traffic& traffic);

/// The execution on this OS thread.
extern constinit thread_local Launch* current_launch;

}  // namespace emulator
