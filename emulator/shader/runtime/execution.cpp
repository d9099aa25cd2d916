#include "execution.h"

#include <algorithm>
#include <bit>

#include "job.h"

namespace emulator {

constinit thread_local Launch* current_launch = nullptr;

namespace {

constexpr std::size_t kAlign = 16;
constexpr std::byte kPoison{
    0xff};  // as float, half and bfloat a NaN, as unsigned the largest number, as int -1

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

std::string text(const Size3& v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

std::string text(const Site& site) {
  std::string_view file = site.file;
  if (const auto slash = file.rfind('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  return std::string(file) + ":" + std::to_string(site.line);
}

Size3 split(std::uint64_t number, const Size3& size) {
  return {static_cast<std::uint32_t>(number % size.x), static_cast<std::uint32_t>(number / size.x % size.y),
          static_cast<std::uint32_t>(number / (std::uint64_t{size.x} * size.y))};
}

std::string lanes_text(std::uint32_t mask) {
  std::string out;
  for (std::uint32_t lane = 0; lane < kSimdWidth; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    std::uint32_t last = lane;
    while (last + 1 < kSimdWidth && (mask >> (last + 1) & 1) != 0) ++last;
    out += (out.empty() ? "" : ", ") + std::to_string(lane) + (last > lane ? "-" + std::to_string(last) : "");
    lane = last;
  }
  return out;
}

std::string region_text(const Region& region) {
  switch (region.kind) {
    case ArgumentKind::Device:
      return "device buffer " + std::to_string(region.index) + " (" + region.name + ")";
    case ArgumentKind::Constant:
      return "constant buffer " + std::to_string(region.index) + " (" + region.name + ")";
    case ArgumentKind::Threadgroup:
      break;
  }
  if (region.index >= kMaxThreadgroupArguments) return "threadgroup variable " + std::string(region.name);
  return "threadgroup argument " + std::to_string(region.index) + " (" + region.name + ")";
}

}  // namespace

// One frame from a meeting to the switch keeps the stacks that are hot small.
[[gnu::always_inline]] inline void Launch::go_to(Fiber& fiber) {
  Fiber& from = *current_fiber_;
  current_fiber_ = &fiber;
  Fiber::switch_to(from, fiber);
}

[[gnu::always_inline]] inline void Launch::block() {
  if (ready_head_ != ready_tail_) {
    current_ = ready_[ready_head_++ % kMaxThreadsPerThreadgroup];
    go_to(*threads_[current_].fiber);
  } else if (fresh_ < thread_count_) {
    current_ = kNone;
    go_to(idle_fiber());
  } else {
    fault(deadlock());
  }
}

std::size_t SharedLayout::add(const char* name, std::size_t bytes_needed) {
  if (count == kMaxShared) throw std::length_error("a kernel may have at most 64 threadgroup variables");
  variables[count] = {bytes, bytes_needed, name};
  bytes += aligned(bytes_needed);
  return count++;
}

Launch::Launch() : threadgroup_storage_(new std::byte[kMaxThreadgroupMemory + 256]) {}
Launch::~Launch() = default;

std::string Launch::run(Job& job) {
  bind(job);
  fault_.clear();
  Launch* outer = current_launch;
  current_launch = this;
  kernel_->apply_constants(job.constants);
  order_count_ = 0;
  shuffle_state_ = job.options.seed;
  if (begin_next_group()) go_to(idle_fiber());
  current_launch = outer;
  if (counts_traffic_) add_traffic(kernel_->name, traffic_);
  if (!fault_.empty()) {
    job.stopped = true;
    idle_.clear();
    for (const auto& fiber : fibers_) {
      fiber->reset();
      idle_.push_back(fiber.get());
    }
  }
  return std::move(fault_);
}

void Launch::count_matrix_load(const std::array<std::uintptr_t, 64>& words) {
  std::array<std::uintptr_t, 64> distinct = words;
  std::sort(distinct.begin(), distinct.end());
  const auto end = std::unique(distinct.begin(), distinct.end());
  std::array<std::uint64_t, 32> banks{};
  for (auto word = distinct.begin(); word != end; ++word) ++banks[*word % banks.size()];
  const auto count = static_cast<std::uint64_t>(end - distinct.begin());
  ++traffic_.matrix_loads;
  traffic_.bank_conflicts += *std::max_element(banks.begin(), banks.end()) - (count + 31) / 32;
}

std::byte* Launch::threadgroup_memory() {
  const auto start = reinterpret_cast<std::uintptr_t>(threadgroup_storage_.get());
  return threadgroup_storage_.get() + ((start + 255) / 256 * 256 - start);
}

void Launch::bind(Job& job) {
  job_ = &job;
  kernel_ = &job.kernel;
  counts_traffic_ = job.options.traffic;
  traffic_ = {};
  std::byte* memory = threadgroup_memory();
  shared_count_ = kernel_->shared->count;
  for (std::size_t i = 0; i < shared_count_; ++i) {
    const SharedVariable& variable = kernel_->shared->variables[i];
    shared_[i] = {memory + variable.offset, variable.bytes, ArgumentKind::Threadgroup,
                  static_cast<std::uint32_t>(kMaxThreadgroupArguments + i), variable.name};
  }
  threadgroup_bytes_ = kernel_->shared->bytes;
  buffers_.fill({});
  threadgroup_arguments_.fill({});
  for (const Argument& argument : kernel_->arguments) {
    if (argument.kind == ArgumentKind::Threadgroup) {
      const std::size_t bytes =
          argument.index < job.threadgroup_lengths.size() ? job.threadgroup_lengths[argument.index] : 0;
      threadgroup_arguments_[argument.index] = {memory + threadgroup_bytes_, bytes, argument.kind,
                                                argument.index, argument.name.data()};
      threadgroup_bytes_ += aligned(bytes);
    } else if (argument.index < job.buffers.size()) {
      const Binding& binding = job.buffers[argument.index];
      buffers_[argument.index] = {
          binding.data,         binding.bound ? binding.bytes : 0,
          argument.kind,        argument.index,
          argument.name.data(), counts_traffic_ ? &traffic_.buffers[argument.index] : nullptr};
    }
  }
}

bool Launch::begin_next_group() {
  const std::uint64_t number = job_->take();
  if (number == job_->group_count) return false;
  begin_group(number);
  return true;
}

void Launch::begin_group(std::uint64_t number) {
  const Grid& grid = job_->grid;
  const Size3& nominal = grid.threads_per_threadgroup;
  group_.groups = grid.threadgroups;
  group_.position = split(number, grid.threadgroups);
  group_.nominal_size = nominal;
  group_.size = nominal;
  group_.grid = {nominal.x * grid.threadgroups.x, nominal.y * grid.threadgroups.y,
                 nominal.z * grid.threadgroups.z};
  if (grid.threads) {
    group_.grid = *grid.threads;
    group_.size.x = std::min(nominal.x, grid.threads->x - group_.position.x * nominal.x);
    group_.size.y = std::min(nominal.y, grid.threads->y - group_.position.y * nominal.y);
    group_.size.z = std::min(nominal.z, grid.threads->z - group_.position.z * nominal.z);
  }
  thread_count_ = static_cast<std::uint32_t>(group_.size.count());
  fresh_ = returned_ = 0;
  at_barrier_ = 0;
  ready_head_ = ready_tail_ = 0;
  current_ = kNone;
  for (std::uint32_t first = 0, n = 0; first < thread_count_; first += kSimdWidth, ++n) {
    const std::uint32_t lanes = std::min(kSimdWidth, thread_count_ - first);
    simdgroups_[n].alive = lanes == kSimdWidth ? ~std::uint32_t{0} : (std::uint32_t{1} << lanes) - 1;
    simdgroups_[n].waiting = 0;
  }
  first_sequence_ += std::uint64_t{1} << 32;
  for (std::uint32_t i = 0; i < thread_count_; ++i) {
    threads_[i] = {};
    threads_[i].operands = threads_[i].products = first_sequence_;
    threads_[i].meet();
  }
  if (threadgroup_bytes_ > 0)
    std::memset(threadgroup_memory(), static_cast<int>(kPoison), threadgroup_bytes_);
  arrange();
}

void Launch::arrange() {
  const Order order = job_->options.order;
  if (order_count_ == thread_count_ && order != Order::Shuffled) return;
  order_count_ = thread_count_;
  for (std::uint32_t i = 0; i < thread_count_; ++i) {
    order_[i] = static_cast<std::uint16_t>(order == Order::Reverse ? thread_count_ - 1 - i : i);
  }
  if (order != Order::Shuffled) return;
  for (std::uint32_t i = thread_count_; i > 1; --i) {
    shuffle_state_ = shuffle_state_ * 6364136223846793005u + 1442695040888963407u;
    std::swap(order_[i - 1], order_[(shuffle_state_ >> 33) % i]);
  }
}

void Launch::fiber_main() {
  Fiber::entered();
  for (;;) {
    Launch& launch = *current_launch;
    launch.kernel_->entry(launch);
    launch.retire();
  }
}

Fiber& Launch::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&Launch::fiber_main, fibers_.size()));
    return *fibers_.back();
  }
  Fiber& fiber = *idle_.back();
  idle_.pop_back();
  return fiber;
}

bool Launch::next_thread(ThreadIds& ids) {
  if (current_ != kNone) finish(current_);
  if (fresh_ == thread_count_) {
    if (returned_ != thread_count_ || !begin_next_group()) return false;
  }
  const std::uint32_t thread = order_[fresh_++];
  threads_[thread].fiber = current_fiber_;
  current_ = thread;
  const Size3 in_group = split(thread, group_.size);
  ids.index = thread;
  ids.in_group = in_group;
  ids.in_grid = {group_.position.x * group_.nominal_size.x + in_group.x,
                 group_.position.y * group_.nominal_size.y + in_group.y,
                 group_.position.z * group_.nominal_size.z + in_group.z};
  return true;
}

void Launch::finish(std::uint32_t thread) {
  last_returned_ = thread;
  ++returned_;
  if (at_barrier_ > 0) {
    fault("threadgroup_barrier at " + text(barrier_site_) + " was reached by thread " +
          position_of(barrier_first_) + " but thread " + position_of(thread) +
          " returned; every thread of the group must reach a barrier");
  }
  const std::uint32_t number = thread / kSimdWidth;
  SimdGroup& group = simdgroups_[number];
  group.alive &= ~(std::uint32_t{1} << thread % kSimdWidth);
  if (group.waiting != 0 && group.waiting == group.alive) release_lanes(number, kNone);
  if (returned_ == thread_count_) check_traces();
  current_ = kNone;
}

void Launch::retire() {
  idle_.push_back(current_fiber_);
  if (ready_head_ != ready_tail_) {
    current_ = ready_[ready_head_++ % kMaxThreadsPerThreadgroup];
    go_to(*threads_[current_].fiber);
  } else if (returned_ == thread_count_) {
    go_to(main_);
  } else {
    fault(deadlock());
  }
}

void Launch::meet_threadgroup(const Site& site) {
  if (at_barrier_ == 0) {
    barrier_site_ = site;
    barrier_first_ = current_;
  } else if (!(barrier_site_ == site)) {
    fault("threadgroup_barrier at " + text(site) + " was reached while thread " +
          position_of(barrier_first_) + " waits at another, " + text(barrier_site_) +
          "; all threads must reach the same barrier");
  }
  if (returned_ > 0) {
    fault("threadgroup_barrier at " + text(site) + " was reached but thread " + position_of(last_returned_) +
          " has returned; every thread of the group must reach a barrier");
  }
  threads_[current_].meet();
  if (++at_barrier_ < thread_count_) {
    block();
    return;
  }
  check_traces();
  at_barrier_ = 0;
  for (std::uint32_t i = 0; i < thread_count_; ++i) {
    if (order_[i] != current_) push_ready(order_[i]);
  }
}

bool Launch::meet_simdgroup(const char* operation, const Site& site, std::uint64_t argument) {
  SimdGroup& group = simdgroup();
  if (group.waiting == 0) {
    group.operation = operation;
    group.site = site;
    group.argument = argument;
    group.trace = threads_[current_].trace;
  } else if (group.operation != operation || !(group.site == site)) {
    fault(std::string(operation) + " at " + text(site) + " was reached while lanes " +
          lanes_text(group.waiting) + " of the same simdgroup wait at " + group.operation + ", " +
          text(group.site));
  } else if (group.argument != argument) {
    fault(std::string(operation) + " at " + text(site) +
          ": an argument that must be the same in all lanes differs: " + std::to_string(argument) +
          " after " + std::to_string(group.argument));
  }
  if (group.trace != threads_[current_].trace) fault_trace(current_ / kSimdWidth);
  threads_[current_].meet();
  group.waiting |= std::uint32_t{1} << lane();
  if (group.waiting == group.alive) {
    release_lanes(current_ / kSimdWidth, current_);
    return true;
  }
  block();
  return false;
}

void Launch::release_lanes(std::uint32_t number, std::uint32_t except) {
  SimdGroup& group = simdgroups_[number];
  const std::uint32_t first = number * kSimdWidth;
  std::uint32_t mask = group.waiting;
  group.waiting = 0;
  if (except != kNone) mask &= ~(std::uint32_t{1} << (except - first));
  // To the front, so that a simdgroup goes on while its stacks are still in the cache.
  if (job_->options.order == Order::Reverse) {
    for (; mask != 0; mask &= mask - 1)
      push_ready_front(first + static_cast<std::uint32_t>(std::countr_zero(mask)));
  } else {
    while (mask != 0) {
      const std::uint32_t last = 31 - static_cast<std::uint32_t>(std::countl_zero(mask));
      push_ready_front(first + last);
      mask &= ~(std::uint32_t{1} << last);
    }
  }
}

void Launch::check_traces() {
  for (std::uint32_t thread = 0; thread < thread_count_; ++thread) {
    const std::uint32_t first = thread / kSimdWidth * kSimdWidth;
    const Thread &a = threads_[thread], &b = threads_[first];
    if (a.trace != b.trace || a.operands != b.operands || a.products != b.products)
      fault_trace(thread / kSimdWidth);
  }
}

void Launch::fault_trace(std::uint32_t simdgroup) {
  fault("an operation on simdgroup matrices was not called by all lanes of simdgroup " +
        std::to_string(simdgroup) + " with the same address and stride at the same place in the source");
}

SharedMatrix& Launch::take(SharedMatrix& matrix, std::uint64_t sequence, std::uint64_t signature,
                           const Site& site, bool& made) {
  made = matrix.sequence == sequence;
  if (made && matrix.signature != signature) {
    fault("an operation on simdgroup matrices at " + text(site) + " was called by lane " +
          std::to_string(lane()) +
          " with another address or stride, or at another place in the source, than by a lane before it");
  }
  matrix.sequence = sequence;
  matrix.signature = signature;
  return matrix;
}

SharedMatrix& Launch::next_operand(std::uint64_t signature, const Site& site, bool& made) {
  Thread& thread = threads_[current_];
  const std::uint64_t sequence = ++thread.operands;
  if (sequence - thread.met_operands > kOperandLag)
    meet_simdgroup("an operation on simdgroup matrices", site, 0);
  return take(simdgroup().operands[sequence % kOperandRing], sequence, signature, site, made);
}

SharedMatrix& Launch::next_product(std::uint64_t signature, const Site& site, bool& made) {
  Thread& thread = threads_[current_];
  const std::uint64_t sequence = ++thread.products;
  if (sequence - thread.met_products > kProductLag)
    meet_simdgroup("an operation on simdgroup matrices", site, 0);
  return take(simdgroup().products[sequence % kProductRing], sequence, signature, site, made);
}

const Region* Launch::find_region(const void* address) const {
  const auto holds = [address](const Region& region) {
    const auto offset =
        reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(region.base);
    return region.base != nullptr && offset < region.bytes;
  };
  for (std::size_t i = 0; i < shared_count_; ++i) {
    if (holds(shared_[i])) return &shared_[i];
  }
  for (const Region& region : threadgroup_arguments_) {
    if (holds(region)) return &region;
  }
  for (const Region& region : buffers_) {
    if (holds(region)) return &region;
  }
  return nullptr;
}

std::string Launch::position_of(std::uint32_t thread) const {
  return text(split(thread, group_.size));
}

std::string Launch::deadlock() const {
  for (const SimdGroup& group : simdgroups_) {
    if (group.waiting == 0) continue;
    const auto number = static_cast<std::uint32_t>(&group - simdgroups_.data());
    if (number * kSimdWidth >= thread_count_) break;
    std::string out = std::string(group.operation) + " at " + text(group.site) + " was reached by lanes " +
                      lanes_text(group.waiting) + " of simdgroup " + std::to_string(number) +
                      " but not by lanes " + lanes_text(group.alive & ~group.waiting);
    if (at_barrier_ > 0) out += ", which wait at threadgroup_barrier, " + text(barrier_site_);
    return out + "; every lane that has not returned must reach it";
  }
  return "the threads of the group wait for each other";
}

void Launch::fault(std::string what) {
  fault_ = std::string(kernel_->name) + ": " + what;
  std::string().swap(what);  // this fiber is abandoned here, and what it owns would never be freed
  if (current_ != kNone) {
    fault_ += "; thread " + position_of(current_) + " of threadgroup " + text(group_.position);
  }
  fault_ += "; " + std::string(kernel_->source);
  for (;;) go_to(main_);
}

void Launch::fault_access(const Region* region, std::uintptr_t address, std::size_t bytes) {
  if (region == nullptr) fault("access of " + std::to_string(bytes) + " bytes through a null pointer");
  const auto offset = static_cast<std::int64_t>(address - reinterpret_cast<std::uintptr_t>(region->base));
  fault(region_text(*region) + ": access of " + std::to_string(bytes) + " bytes at byte offset " +
        std::to_string(offset) + " is out of bounds; the binding holds " + std::to_string(region->bytes) +
        " bytes");
}

void Launch::fault_alignment(const Region* region, std::uintptr_t address, std::size_t alignment,
                             const char* verb) {
  const auto offset =
      region == nullptr ? std::int64_t{0}
                        : static_cast<std::int64_t>(address - reinterpret_cast<std::uintptr_t>(region->base));
  fault((region == nullptr ? std::string("null pointer") : region_text(*region)) + ": " + verb +
        " at byte offset " + std::to_string(offset) + " is not aligned to " + std::to_string(alignment) +
        " bytes");
}

}  // namespace emulator
