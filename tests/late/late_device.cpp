#include "late/late_device.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <utility>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/selector.h"

namespace candela::test {
namespace {

using Task = std::function<void()>;

/// The device's memory: one range of addresses, open to access only while the device runs.
class LateMemory {
 public:
  static constexpr std::size_t kBytes = std::size_t{1} << 30U;

  LateMemory()
      : base_(static_cast<std::byte*>(
            ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    require<DeviceError>(base_ != MAP_FAILED, "late device: no address space");
    free_[0] = kBytes;
  }
  ~LateMemory() { ::munmap(base_, kBytes); }
  LateMemory(const LateMemory&) = delete;
  LateMemory& operator=(const LateMemory&) = delete;

  void open() { protect(PROT_READ | PROT_WRITE); }
  void close() { protect(PROT_NONE); }

  /// First fit; the allocator's mutex guards it.
  MemoryBlock acquire(std::size_t bytes) {
    for (auto [at, room] : free_) {
      if (room < bytes) continue;
      free_.erase(at);
      if (room > bytes) free_[at + bytes] = room - bytes;
      used_ += bytes;
      return {base_ + at, nullptr, bytes};
    }
    return {nullptr, nullptr, bytes};
  }
  void release(const MemoryBlock& block) {
    std::size_t at = static_cast<std::size_t>(static_cast<std::byte*>(block.data) - base_);
    std::size_t room = block.bytes;
    used_ -= room;
    const auto next = free_.lower_bound(at);
    if (next != free_.end() && next->first == at + room) {
      room += next->second;
      free_.erase(next);
    }
    const auto before = free_.lower_bound(at);
    if (before != free_.begin() && std::prev(before)->first + std::prev(before)->second == at) {
      std::prev(before)->second += room;
      return;
    }
    free_[at] = room;
  }
  std::size_t used() const { return used_; }

 private:
  void protect(int access) {
    require<DeviceError>(::mprotect(base_, kBytes, access) == 0, "late device: mprotect failed");
  }

  std::byte* base_;
  /// bytes by offset
  std::map<std::size_t, std::size_t> free_;
  std::size_t used_ = 0;
};

class LateSource final : public MemorySource {
 public:
  explicit LateSource(std::shared_ptr<LateMemory> memory) : memory_(std::move(memory)) {}
  MemoryBlock acquire(std::size_t bytes) override { return memory_->acquire(bytes); }
  void release(const MemoryBlock& block) override { memory_->release(block); }

 private:
  std::shared_ptr<LateMemory> memory_;
};

/// Tasks in order, run by a thread of its own while the host waits for them.
class LateStream final : public Stream {
 public:
  explicit LateStream(std::shared_ptr<LateMemory> memory)
      : memory_(std::move(memory)), thread_([this] { work(); }) {}
  ~LateStream() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void push(Task task) {
    const std::lock_guard lock(mutex_);
    if (recording_ != nullptr && recorder_ == std::this_thread::get_id()) {
      recording_->push_back(std::move(task));
      return;
    }
    tasks_.push_back(std::move(task));
    ++enqueued_;
  }
  void push_kernel(Task task) {
    push([this, task = std::move(task)] {
      ++counters_.kernels;
      task();
    });
  }
  std::uint64_t enqueued() {
    const std::lock_guard lock(mutex_);
    return enqueued_;
  }
  std::uint64_t pending() {
    const std::lock_guard lock(mutex_);
    return enqueued_ - done_;
  }

  void synchronize() override { wait_for(enqueued()); }

  void wait_for(std::uint64_t until) {
    std::unique_lock lock(mutex_);
    if (done_ < until) {
      ++counters_.waits;
      wanted_ = std::max(wanted_, until);
      changed_.notify_all();
      changed_.wait(lock, [&] { return done_ >= until; });
    }
    if (failure_ == nullptr) return;
    try {
      std::rethrow_exception(std::exchange(failure_, nullptr));
    } catch (const std::exception& error) {
      throw DeviceError(fmt::format("late device: {}", error.what()));
    }
  }

  void begin_recording(std::vector<Task>* into) {
    const std::lock_guard lock(mutex_);
    recording_ = into;
    recorder_ = std::this_thread::get_id();
  }

  LateCounters counters() {
    const std::lock_guard lock(mutex_);
    return counters_;
  }
  void count_upload() { ++counters_.uploads; }
  void count_read() { ++counters_.reads; }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stop_ || done_ < wanted_; });
      if (stop_) return;
      memory_->open();
      while (done_ < wanted_) {
        Task task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        std::exception_ptr failure;
        try {
          task();
        } catch (...) {
          failure = std::current_exception();
        }
        task = {};
        lock.lock();
        if (failure != nullptr && failure_ == nullptr) failure_ = failure;
        ++done_;
      }
      memory_->close();
      changed_.notify_all();
    }
  }

  std::shared_ptr<LateMemory> memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  std::vector<Task>* recording_ = nullptr;
  std::thread::id recorder_;
  std::uint64_t enqueued_ = 0, wanted_ = 0, done_ = 0;
  std::exception_ptr failure_;
  LateCounters counters_;
  bool stop_ = false;
  std::thread thread_;  // the last: it uses all others
};

class LateEvent final : public Event {
 public:
  LateEvent(LateStream& stream, std::uint64_t until) : stream_(stream), until_(until) {}
  void wait() override { stream_.wait_for(until_); }

 private:
  LateStream& stream_;
  std::uint64_t until_;
};

template <class Args>
Args args_of(KernelList<Args> KernelTable::*);

/// The kernels of the CPU's list of the same name, on the device's memory.
template <auto kList>
struct Late {
  using Args = decltype(args_of(kList));

  static const KernelList<Args>& list() { return backend(Device::cpu()).kernels().*kList; }

  static std::string supports(const Args& args) {
    for (const Kernel<Args>& kernel : list().kernels) {
      if (kernel.supports(args).empty()) return {};
    }
    return "the CPU takes it not either";
  }
  static std::size_t workspace(const Args& args) { return workspace_bytes(list(), args); }
  static void run(const Args& args, Stream& stream, Workspace memory) {
    const std::size_t bytes = workspace(args);
    auto* base = memory.take<std::byte>(static_cast<std::int64_t>(bytes));
    static_cast<LateStream&>(stream).push_kernel([args, base, bytes] {
      const TeamLock lock;
      const Storage own(Device::cpu(), {base, nullptr, bytes}, nullptr);
      run_within(kList, backend(Device::cpu()), args, bytes == 0 ? Workspace() : Workspace(own));
    });
  }
};

template <auto kList>
constexpr bool kIsOp = true;
template <>
constexpr bool kIsOp<&KernelTable::gemm> = false;

class LateRecording final : public Recording {
 public:
  LateRecording(LateStream& stream, std::shared_ptr<CachingAllocator::Pool> pool)
      : stream_(stream), pool_(std::move(pool)) {}
  void replay() override {
    for (const Task& task : tasks) stream_.push(task);
  }

  const std::shared_ptr<CachingAllocator::Pool>& pool() const { return pool_; }

  std::vector<Task> tasks;

 private:
  LateStream& stream_;
  std::shared_ptr<CachingAllocator::Pool> pool_;
};

class LateBackend final : public Backend {
 public:
  explicit LateBackend(Device device)
      : memory_(std::make_shared<LateMemory>()),
        stream_(memory_),
        allocator_(device, std::make_unique<LateSource>(memory_)) {
    KernelTable::for_each_list([&]<auto kList>() {
      if (kIsOp<kList>)
        (kernels_.*kList).add("late", Late<kList>::supports, Late<kList>::workspace, Late<kList>::run);
    });
  }

  Allocator& allocator() override { return allocator_; }
  LateStream& stream() override { return stream_; }
  const KernelTable& kernels() const override { return kernels_; }
  bool host_accessible() const override { return false; }
  std::string description() const override { return "late: the CPU's kernels, when the host waits"; }
  StoragePtr wrap_host(void*, std::size_t, std::shared_ptr<const void>) override { return nullptr; }
  DeviceMemory memory() const override { return {LateMemory::kBytes - memory_->used(), LateMemory::kBytes}; }

  void copy_in(const Storage& to, std::size_t offset, std::span<const std::byte> from) override {
    if (from.empty()) return;
    stream_.count_upload();
    stream_.push([target = static_cast<std::byte*>(to.data()) + offset,
                  bytes = std::vector<std::byte>(from.begin(), from.end())] {
      std::memcpy(target, bytes.data(), bytes.size());
    });
  }
  std::unique_ptr<Event> copy_out(const Storage& from, std::size_t offset, std::span<std::byte> to) override {
    stream_.count_read();
    stream_.push([source = static_cast<const std::byte*>(from.data()) + offset, to] {
      std::memcpy(to.data(), source, to.size());
    });
    return record_event();
  }
  std::unique_ptr<Event> record_event() override {
    return std::make_unique<LateEvent>(stream_, stream_.enqueued());
  }
  bool records() const override { return true; }
  std::unique_ptr<Recording> record(std::function<void()> work, const Recording* beside) override {
    const auto pool =
        beside != nullptr ? static_cast<const LateRecording*>(beside)->pool() : allocator_.make_pool();
    auto recording = std::make_unique<LateRecording>(stream_, pool);
    const CachingAllocator::PoolScope scope(allocator_, pool);
    stream_.begin_recording(&recording->tasks);
    try {
      work();
    } catch (...) {
      stream_.begin_recording(nullptr);
      throw;
    }
    stream_.begin_recording(nullptr);
    return recording;
  }

 private:
  std::shared_ptr<LateMemory> memory_;
  LateStream stream_;
  CachingAllocator allocator_;
  KernelTable kernels_;
};

LateBackend& late_backend() {
  return static_cast<LateBackend&>(backend(late_device()));
}

}  // namespace

Device late_device() {
  static const Device device = add_backend([](Device given) { return std::make_unique<LateBackend>(given); });
  return device;
}

LateCounters late_counters() {
  return late_backend().stream().counters();
}

std::uint64_t late_pending() {
  return late_backend().stream().pending();
}

}  // namespace candela::test
