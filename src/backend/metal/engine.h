#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "backend/metal/counters.h"
#include "backend/metal/data_fault.h"
#include "backend/metal/objc/command.h"
#include "backend/metal/shader_library.h"

namespace candela::metal {

/// When the open command buffer is committed without being asked to. A buffer that runs for too long trips
/// the GPU's watchdog; one that is too short costs more to commit than to run.
struct EngineLimits {
  /// ops of one command buffer; MLX takes 20 to 50
  std::size_t ops = 40;
  /// arithmetic of one command buffer, and of one dispatch of a product or of attention: about 10 ms of an M1
  double flop = 2e10;
  /// memory traffic of one command buffer; MLX takes 40 to 50 MB
  double bytes = 45e6;
  /// command buffers committed and not completed: several training steps of a large model
  std::size_t in_flight = 60;
  /// MPS kernel objects; the least recently used goes first
  std::size_t cached_kernels = 512;
};

/// What one op asks of the GPU, as far as its shapes tell.
struct Work {
  double flop = 0, bytes = 0;
};

/// Where an op encodes its commands: valid inside Engine::encode.
class Encoding {
 public:
  const objc::Device& device() const { return device_; }
  /// The open compute encoder. Dispatches in it run in order, each sees the writes of those before.
  objc::ComputeEncoder& compute();
  /// The command buffer, no encoder open: MPS kernels open their own.
  const objc::CommandBuffer& buffer();
  /// Where shaders of the open command buffer report data that they cannot take: buffer and offset in bytes.
  const objc::Buffer& fault_buffer() const { return faults_->buffer(); }
  std::size_t fault_offset() const { return DataFaults::offset_of(ticket_); }
  /// The pipeline of a native shader.
  const objc::Pipeline& pipeline(std::string_view family, const std::string& function,
                                 std::span<const ShaderConstant> constants) {
    return shaders_.pipeline(family, function, constants);
  }
  /// The cached kernel object of this key, made by `make` when it is new. K derives from objc::Object. One
  /// thread encodes at a time, so the object's mutable state is safe.
  template <class K, class Make>
  K& kernel(const std::string& key, Make&& make) {
    if (auto* found = find_kernel(key)) return static_cast<Holder<K>*>(found)->kernel;
    auto holder = std::make_unique<Holder<K>>(make());
    K& made = holder->kernel;
    add_kernel(key, std::move(holder));
    return made;
  }

 private:
  friend class Engine;
  struct AnyKernel {
    AnyKernel() = default;
    AnyKernel(const AnyKernel&) = delete;
    AnyKernel& operator=(const AnyKernel&) = delete;
    virtual ~AnyKernel() = default;
  };
  template <class K>
  struct Holder final : AnyKernel {
    explicit Holder(K made) : kernel(std::move(made)) {}
    K kernel;
  };
  struct CachedKernel {
    std::string key;
    std::unique_ptr<AnyKernel> kernel;
  };

  Encoding(objc::Device device, AtomicCounters& counters, std::size_t cached_kernels)
      : device_(std::move(device)),
        counters_(counters),
        shaders_(device_, counters),
        cached_kernels_(cached_kernels),
        faults_(std::make_shared<DataFaults>(device_)) {}
  AnyKernel* find_kernel(const std::string& key);
  void add_kernel(const std::string& key, std::unique_ptr<AnyKernel> kernel);

  objc::Device device_;
  AtomicCounters& counters_;
  ShaderLibrary shaders_;
  std::size_t cached_kernels_;
  std::shared_ptr<DataFaults> faults_;
  /// of the open command buffer
  std::uint64_t ticket_ = 0;
  objc::CommandBuffer buffer_;
  objc::ComputeEncoder encoder_;
  /// the most recently used first
  std::list<CachedKernel> kernels_;
  std::unordered_map<std::string, std::list<CachedKernel>::iterator> kernel_index_;
};

/// The command engine of one device: one queue, one open command buffer into which every op encodes,
/// committed after a bounded amount of work or when the host reads. Thread-safe: threads take turns encoding,
/// each one's ops stay in order.
class Engine final : public Stream {
 public:
  Engine(objc::Device device, const EngineLimits& limits);
  ~Engine() override;

  /// Calls `body(Encoding&)` to encode one op. May block while too many command buffers are in flight.
  template <class Body>
  void encode(std::string_view op, Work work, Body&& body) {
    const std::lock_guard lock(encode_mutex_);
    const objc::AutoreleasePool pool;
    begin_op(op);
    note_work(last_ticket_ + 1);
    body(encoding_);
    end_op(work);
  }

  /// Commits what is open and waits until all of it is done. Throws DeviceError naming the ops of the command
  /// buffers that failed, or InvalidArgument for an index that a shader found out of range, in every thread
  /// whose work since it last synchronised lies at or after the first of
  /// them: what it is about to read may rest on results that never came. A thread without work of its own
  /// reads that of others and counts as having encoded all of it; one that comes new, all since the last
  /// failure that a thread with work in it was told of.
  void synchronize() override;
  /// As synchronize, but leaves failures for the next synchronize: for the allocator, which must not throw
  /// them.
  void wait_idle();
  /// Commits what is open without waiting.
  void flush();
  /// Whether all work is done, so that the host may touch memory that no later work uses.
  bool idle();

  const objc::Device& device() const { return device_; }
  const EngineLimits& limits() const { return limits_; }
  AtomicCounters& counters() { return *counters_; }
  /// Called before an out-of-memory failure is thrown: gives cached memory back.
  void set_trim(std::function<void()> trim) { trim_ = std::move(trim); }

 private:
  /// Command buffers are numbered by tickets in the order of their commits.
  struct Tickets {
    std::uint64_t first = 0, last = 0;
  };
  /// Failed command buffers, and all that may rest on their results: from the first that failed to the last
  /// that was committed when a thread was first told.
  struct Failure {
    Tickets tickets;
    std::string text;
    std::size_t command_buffers = 1;
    bool out_of_memory = false;
    /// the command buffer ran, a shader refused its data
    bool bad_data = false;
    /// to some thread
    bool told = false;
    /// to a thread whose own work it took
    bool known = false;
  };
  /// What completion handlers write; outlives the engine while handlers are pending.
  struct Completion {
    std::mutex mutex;
    std::condition_variable changed;
    /// tickets of the command buffers that are not completed
    std::set<std::uint64_t> in_flight;
    /// in order; kept, since threads that encoded may read much later
    std::vector<Failure> failures;
    /// A command buffer failed: the queue may ignore whatever follows.
    bool queue_failed = false;

    void add_failure(const Failure& failure);
  };
  /// What one thread did on one engine since it last synchronised.
  struct ThreadWork {
    /// no work if `first` is 0
    Tickets encoded;
    /// the last ticket that it has waited for
    std::uint64_t synchronized = 0;
  };

  ThreadWork& thread_work() const;
  void note_work(std::uint64_t ticket);
  /// As wait_idle; returns the last ticket that was waited for.
  std::uint64_t wait_for_all();
  /// After a failed command buffer: a new queue, once the old one's are through.
  void renew_queue();
  void begin_op(std::string_view op);
  void end_op(Work work);
  void commit_open();
  /// Waits until `done(completion)`; called without the completion's lock.
  void wait_until(bool stall, const std::function<bool(const Completion&)>& done);
  std::string op_summary() const;

  /// never used again: what threads know an engine by
  const std::uint64_t id_;
  objc::Device device_;
  EngineLimits limits_;
  std::shared_ptr<AtomicCounters> counters_;
  std::shared_ptr<Completion> completion_;
  std::function<void()> trim_;

  std::mutex encode_mutex_;
  objc::CommandQueue queue_;
  Encoding encoding_;
  /// what the open command buffer holds
  std::map<std::string, int, std::less<>> open_ops_;
  std::size_t open_count_ = 0;
  /// command buffers committed so far
  std::uint64_t last_ticket_ = 0;
  Work open_work_;
};

}  // namespace candela::metal
