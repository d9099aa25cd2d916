// Launching a kernel over a grid: the checks before it, and the OS threads that share its groups.

#include <condition_variable>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "job.h"

namespace emulator {
namespace {

std::string text(const Size3& v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

Options options_from_environment() {
  Options out;
  if (const char* order = std::getenv("EMULATOR_ORDER"); order != nullptr) {
    const std::string_view value = order;
    if (value == "reverse") {
      out.order = Order::Reverse;
    } else if (value.starts_with("shuffled")) {
      out.order = Order::Shuffled;
      if (const auto colon = value.find(':'); colon != value.npos)
        out.seed = std::strtoull(order + colon + 1, nullptr, 10);
    } else if (value != "forward") {
      throw std::invalid_argument("EMULATOR_ORDER must be forward, reverse or shuffled:SEED; got " +
                                  std::string(value));
    }
  }
  if (const char* threads = std::getenv("EMULATOR_THREADS"); threads != nullptr) {
    out.os_threads = static_cast<unsigned>(std::strtoul(threads, nullptr, 10));
  }
  return out;
}

std::mutex options_mutex;

Options& stored_options() {
  static Options instance = options_from_environment();
  return instance;
}

/// While it lives, f32 subnormals are zero on this OS thread.
class FlushedSubnormals {
 public:
  explicit FlushedSubnormals(bool flush) : before_(read()) {
    if (flush) write(before_ | kFlush);
  }
  ~FlushedSubnormals() { write(before_); }
  FlushedSubnormals(const FlushedSubnormals&) = delete;
  FlushedSubnormals& operator=(const FlushedSubnormals&) = delete;

 private:
#if defined(__x86_64__)
  using Control = unsigned;
  static constexpr Control kFlush = 0x8040;  // results, and operands
  static Control read() {
    return __builtin_ia32_stmxcsr();
  }
  static void write(Control control) {
    __builtin_ia32_ldmxcsr(control);
  }
#else
  using Control = std::uint64_t;
  static constexpr Control kFlush = std::uint64_t{1} << 24;
  static Control read() {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void write(Control control) {
    asm volatile("msr fpcr, %0" : : "r"(control));
  }
#endif
  Control before_;
};

struct TrafficTable {
  std::mutex mutex;
  std::map<std::string, Traffic, std::less<>> kernels;
};
TrafficTable& traffic_table() {
  static TrafficTable& table = *new TrafficTable;  // never destroyed: see Helpers
  return table;
}

/// The execution state of the calling OS thread, kept from launch to launch for its stacks. A launch inside a
/// launch cannot happen: a shader has no way to call one.
std::string run_here(Job& job) {
  thread_local const std::unique_ptr<Launch> launch = std::make_unique<Launch>();
  const FlushedSubnormals flushed(job.options.flush_subnormals);
  return launch->run(job);
}

/// OS threads that help with the groups of a job while its caller works on them too. Never destroyed: a
/// program may end while a queue is at work.
class Helpers {
 public:
  static Helpers& instance() {
    static Helpers& helpers = *new Helpers;
    return helpers;
  }

  /// Runs the job on the calling thread and up to `wanted` helpers; the text of the first fault, or "".
  std::string share(Job& job, unsigned wanted) {
    Entry entry{&job, wanted, 0, {}};
    {
      const std::lock_guard lock(mutex_);
      while (threads_.size() < wanted) threads_.emplace_back([this] { serve(); });
      entries_.push_back(&entry);
    }
    work_.notify_all();
    std::string fault = run_here(job);
    std::unique_lock lock(mutex_);
    entries_.remove(&entry);
    done_.wait(lock, [&entry] { return entry.active == 0; });
    return fault.empty() ? entry.fault : fault;
  }

 private:
  struct Entry {
    Job* job;
    unsigned wanted;
    unsigned active;
    std::string fault;
  };

  Helpers() = default;

  Entry* pick() {
    for (Entry* entry : entries_) {
      if (entry->wanted > 0 && !entry->job->stopped && entry->job->next_group < entry->job->group_count)
        return entry;
    }
    return nullptr;
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Entry* entry = nullptr;
      work_.wait(lock, [&] { return (entry = pick()) != nullptr; });
      --entry->wanted;
      ++entry->active;
      lock.unlock();
      std::string fault = run_here(*entry->job);
      lock.lock();
      if (!fault.empty() && entry->fault.empty()) entry->fault = std::move(fault);
      if (--entry->active == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::list<Entry*> entries_;
  std::vector<std::thread> threads_;
};

bool enabled(const Argument& argument, const Kernel& kernel, const FunctionConstants& constants) {
  if (argument.condition.empty()) return true;
  for (const FunctionConstant& constant : kernel.function_constants) {
    if (constant.name != argument.condition) continue;
    const FunctionConstants::Value* value = constants.find(constant.index, constant.name);
    return value != nullptr && value->bytes[0] != std::byte{0};
  }
  return false;
}

void check_grid(const Kernel& kernel, const Grid& grid) {
  const std::string where = std::string(kernel.name) + ": ";
  const Size3& size = grid.threads_per_threadgroup;
  if (size.count() == 0 || grid.threadgroups.count() == 0) {
    throw ShaderFault(where + "the grid and its threadgroups must not be empty; got " +
                      text(grid.threadgroups) + " groups of " + text(size) + " threads");
  }
  if (size.count() > kernel.max_threads) {
    throw ShaderFault(where + "a threadgroup may have at most " + std::to_string(kernel.max_threads) +
                      " threads; got " + text(size) + ", which are " + std::to_string(size.count()));
  }
}

void check_binding(const Kernel& kernel, const Argument& argument, const Binding* binding) {
  const std::string where = std::string(kernel.name) + ": buffer " + std::to_string(argument.index) + " (" +
                            std::string(argument.name) + ")";
  if (binding == nullptr || !binding->bound) throw ShaderFault(where + " was never bound");
  const auto address = reinterpret_cast<std::uintptr_t>(binding->data);
  if (argument.alignment > 1 && address % argument.alignment != 0) {
    throw ShaderFault(where + " must be aligned to " + std::to_string(argument.alignment) + " bytes for " +
                      std::string(argument.type) + "; its address is " +
                      std::to_string(address % argument.alignment) + " bytes past that");
  }
  if (argument.is_reference && binding->bytes < argument.element_bytes) {
    throw ShaderFault(where + " must hold a " + std::string(argument.type) + " of " +
                      std::to_string(argument.element_bytes) + " bytes; " + std::to_string(binding->bytes) +
                      " are bound");
  }
}

void check_arguments(const Kernel& kernel, std::span<const Binding> buffers,
                     std::span<const std::size_t> lengths, const FunctionConstants& constants) {
  const std::string where = std::string(kernel.name) + ": ";
  std::size_t total = kernel.static_threadgroup_bytes();
  for (const Argument& argument : kernel.arguments) {
    if (argument.kind != ArgumentKind::Threadgroup) {
      if (!enabled(argument, kernel, constants)) continue;
      check_binding(kernel, argument, argument.index < buffers.size() ? &buffers[argument.index] : nullptr);
      continue;
    }
    const std::size_t bytes = argument.index < lengths.size() ? lengths[argument.index] : 0;
    const std::string name =
        "threadgroup argument " + std::to_string(argument.index) + " (" + std::string(argument.name) + ")";
    if (bytes == 0) throw ShaderFault(where + name + " has no length");
    if (bytes % 16 != 0) {
      throw ShaderFault(where + name + " must have a length that is a multiple of 16 bytes; got " +
                        std::to_string(bytes));
    }
    total += bytes;
  }
  if (total > kMaxThreadgroupMemory) {
    throw ShaderFault(where + "a threadgroup may use at most " + std::to_string(kMaxThreadgroupMemory) +
                      " bytes of memory; got " + std::to_string(total) + ", of which " +
                      std::to_string(kernel.static_threadgroup_bytes()) + " are declared in the shader");
  }
}

}  // namespace

Options options() {
  const std::lock_guard lock(options_mutex);
  return stored_options();
}

void set_options(const Options& options) {
  const std::lock_guard lock(options_mutex);
  stored_options() = options;
}

void add_traffic(std::string_view kernel, const Traffic& traffic) {
  const std::lock_guard lock(traffic_table().mutex);
  Traffic& sum = traffic_table().kernels[std::string(kernel)];
  for (std::size_t i = 0; i < kMaxBuffers; ++i) {
    sum.buffers[i].accesses += traffic.buffers[i].accesses;
    sum.buffers[i].bytes += traffic.buffers[i].bytes;
  }
  sum.matrix_loads += traffic.matrix_loads;
  sum.bank_conflicts += traffic.bank_conflicts;
}

Traffic take_traffic(std::string_view kernel) {
  const std::lock_guard lock(traffic_table().mutex);
  const auto found = traffic_table().kernels.find(kernel);
  if (found == traffic_table().kernels.end()) return {};
  const Traffic taken = found->second;
  traffic_table().kernels.erase(found);
  return taken;
}

Grid Grid::of_threads(Size3 threads, Size3 per_group) {
  const auto groups = [](std::uint32_t n, std::uint32_t size) {
    return size == 0 ? 0 : (n + size - 1) / size;
  };
  return {{groups(threads.x, per_group.x), groups(threads.y, per_group.y), groups(threads.z, per_group.z)},
          per_group,
          threads};
}

void launch(const Kernel& kernel, std::span<const Binding> buffers,
            std::span<const std::size_t> threadgroup_lengths, const FunctionConstants& constants,
            const Grid& grid) {
  if (std::string problem = check_constants(kernel, constants); !problem.empty()) throw ShaderFault(problem);
  check_grid(kernel, grid);
  check_arguments(kernel, buffers, threadgroup_lengths, constants);
  const Options chosen = options();
  Job job(kernel, buffers, threadgroup_lengths, constants, grid, chosen);
  const unsigned machine = std::max(1u, std::thread::hardware_concurrency());
  const std::uint64_t threads =
      std::min<std::uint64_t>(chosen.os_threads == 0 ? machine : chosen.os_threads, job.group_count);
  const std::string fault =
      threads <= 1 ? run_here(job) : Helpers::instance().share(job, static_cast<unsigned>(threads - 1));
  if (!fault.empty()) throw ShaderFault(fault);
}

}  // namespace emulator
