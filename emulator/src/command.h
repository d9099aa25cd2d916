#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <thread>

#include "objects.h"

namespace emulator {

/// One encoded command. `keep` is what it uses; for command buffers with unretained references these are not
/// owned.
struct Command {
  std::string name;
  std::function<void()> run;
  std::vector<Ref> keep;
};

/// What one encoder wrote. Commands of one segment may run in any order if the encoder is concurrent; a
/// barrier starts another.
struct EncoderRecord {
  std::string label;
  bool concurrent = false;
  std::vector<std::vector<Command>> segments = std::vector<std::vector<Command>>(1);
  std::vector<std::string> signposts;
  MTLCommandEncoderErrorState state = MTLCommandEncoderErrorStatePending;

  void add(Command command) { segments.back().push_back(std::move(command)); }
  void barrier() {
    if (!segments.back().empty()) segments.emplace_back();
  }
};

/// A command broke a rule while it ran. Becomes the command buffer's error and, with a kind, a recorded
/// fault.
struct ExecutionError {
  int code = MTLCommandBufferErrorInternal;
  std::string kind;
  std::string text;
};

/// Order, places and the worker thread of a queue. Outlives the queue object until its thread has ended.
class QueueCore final : public Idleness, public std::enable_shared_from_this<QueueCore> {
 public:
  explicit QueueCore(NSUInteger limit) : limit_(limit) {}
  /// Ends the worker; waits for it unless this is its own thread.
  void stop();

  /// Waits while `limit` command buffers are uncompleted; throws if none of them was committed, as then none
  /// ever ends.
  void take_place();
  void give_back_place(bool committed);
  /// From now on every command buffer ends in an error.
  void ignore() { ignores_ = true; }
  bool ignores() const { return ignores_; }
  /// The place in the queue's order; the entry owns a reference.
  void enqueue(EmulatorCommandBuffer* buffer);
  void commit(EmulatorCommandBuffer* buffer);
  bool is_worker() const { return std::this_thread::get_id() == worker_id_.load(); }
  bool wait_idle(double seconds) override;

 private:
  struct Entry {
    EmulatorCommandBuffer* buffer;
    bool committed;
  };
  void work();

  const NSUInteger limit_;
  std::mutex mutex_;
  std::condition_variable work_, place_, idle_;
  std::deque<Entry> order_;
  NSUInteger outstanding_ = 0;  // created and not completed
  NSUInteger committed_outstanding_ = 0;
  NSUInteger pending_ = 0;  // committed and not yet released by the worker
  bool stopping_ = false;
  std::atomic<bool> ignores_{false};
  std::thread thread_;
  std::atomic<std::thread::id> worker_id_{};
};

struct QueueState final : ObjectState {
  explicit QueueState(NSUInteger limit)
      : ObjectState("MTLCommandQueue"), core(std::make_shared<QueueCore>(limit)) {
    State::get().add_queue(core);
    State::get().count(&Counters::queues);
  }
  ~QueueState() override { core->stop(); }
  const std::shared_ptr<QueueCore> core;
};

struct CommandBufferState final : ObjectState {
  CommandBufferState(id queue_object, bool retain_references, MTLCommandBufferErrorOption options);
  ~CommandBufferState() override;

  /// Refuses unless commands may still be encoded and no encoder is open.
  void check_encodable(const char* method) const;
  std::shared_ptr<EncoderRecord> open(const char* method, const void* encoder, bool concurrent);
  void close(const void* encoder);
  bool has_open_encoder() const { return open_encoder_ != nullptr; }
  /// Runs everything on the worker's thread and completes.
  void execute(EmulatorCommandBuffer* self);
  MTLCommandBufferStatus status() const { return status_.load(); }

  const Ref queue;
  const std::shared_ptr<QueueCore> core;
  const bool retained;
  const MTLCommandBufferErrorOption error_options;
  std::vector<std::shared_ptr<EncoderRecord>> records;
  std::vector<MTLCommandBufferHandler> scheduled_handlers, completed_handlers;
  int injected_error = 0;
  int groups = 0;
  double kernel_start = 0, kernel_end = 0, gpu_start = 0, gpu_end = 0;

  mutable std::mutex mutex;
  std::condition_variable changed;
  NSError* error = nil;
  bool finished = false;  // completed, handlers included

  void set_status(MTLCommandBufferStatus status);

 private:
  void run_records(ExecutionError* failure);
  NSError* make_error(const ExecutionError& failure) const;
  void call(std::vector<MTLCommandBufferHandler>* handlers, EmulatorCommandBuffer* self);

  std::atomic<MTLCommandBufferStatus> status_{MTLCommandBufferStatusNotEnqueued};
  const void* open_encoder_ = nullptr;
};

inline CommandBufferState& command_buffer_state(id<MTLCommandBuffer> buffer) {
  return state_of<CommandBufferState>(buffer);
}

/// Adds one MPS kernel as an encoder of its own, as MPS does. `buffers` are kept until it has run.
void encode_mps(const char* method, id<MTLCommandBuffer> command_buffer, const std::string& name,
                const std::vector<id>& buffers, std::function<void()> run);

}  // namespace emulator
