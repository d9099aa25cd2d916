#include "backend/metal/engine.h"

#include <algorithm>
#include <limits>

#include <candela/core/error.h>

namespace candela::metal {
namespace {

/// Failures kept apart; beyond that the oldest ones become one.
constexpr std::size_t kMostFailures = 16;

std::uint64_t next_engine_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

/// What to do about a failed command buffer, where that is known.
std::string_view advice(const objc::Outcome& outcome) {
  if (outcome.code == objc::kTimeoutCode || outcome.text.find("Impacting Interactivity") != std::string::npos)
    return "; the display or another program waited for the GPU: use a smaller batch or a shorter maximum "
           "length, or close what else draws";
  return {};
}

}  // namespace

objc::ComputeEncoder& Encoding::compute() {
  if (!encoder_) encoder_ = buffer_.compute_encoder();
  require<DeviceError>(static_cast<bool>(encoder_),
                       "metal: the command buffer gave no encoder; the device may be lost");
  return encoder_;
}

const objc::CommandBuffer& Encoding::buffer() {
  encoder_.end();
  return buffer_;
}

Encoding::AnyKernel* Encoding::find_kernel(const std::string& key) {
  const auto found = kernel_index_.find(key);
  if (found == kernel_index_.end()) return nullptr;
  kernels_.splice(kernels_.begin(), kernels_, found->second);
  counters_.kernel_hits.fetch_add(1, std::memory_order_relaxed);
  return found->second->kernel.get();
}

void Encoding::add_kernel(const std::string& key, std::unique_ptr<AnyKernel> kernel) {
  kernels_.push_front({key, std::move(kernel)});
  kernel_index_[key] = kernels_.begin();
  counters_.kernels_made.fetch_add(1, std::memory_order_relaxed);
  if (kernels_.size() > cached_kernels_) {
    kernel_index_.erase(kernels_.back().key);
    kernels_.pop_back();
  }
}

Engine::Engine(objc::Device device, const EngineLimits& limits)
    : id_(next_engine_id()),
      device_(std::move(device)),
      limits_(limits),
      counters_(std::make_shared<AtomicCounters>()),
      completion_(std::make_shared<Completion>()),
      // Room beyond our own bound, so that the queue itself never blocks.
      queue_(device_.new_queue(limits.in_flight + 2)),
      encoding_(device_, *counters_, limits.cached_kernels) {
  counters_->queues.fetch_add(1);
}

Engine::~Engine() {
  const std::lock_guard lock(encode_mutex_);
  const objc::AutoreleasePool pool;
  commit_open();
  wait_until(false, [](const Completion& completion) { return completion.in_flight.empty(); });
}

void Engine::Completion::add_failure(const Failure& failure) {
  if (!failures.empty() && !failures.back().told) {
    // One calamity to those who have yet to hear of it.
    Failure& open = failures.back();
    open.tickets.first = std::min(open.tickets.first, failure.tickets.first);
    open.out_of_memory = open.out_of_memory || failure.out_of_memory;
    if (open.bad_data && !failure.bad_data) {  // results that never came weigh more than a bad index
      open.bad_data = false;
      open.text = failure.text;
    }
    ++open.command_buffers;
    return;
  }
  failures.push_back(failure);
  if (failures.size() > kMostFailures) {
    failures[1].tickets.first = std::min(failures[0].tickets.first, failures[1].tickets.first);
    failures.erase(failures.begin());
  }
}

Engine::ThreadWork& Engine::thread_work() const {
  thread_local std::unordered_map<std::uint64_t, ThreadWork> work;  // by engine
  return work[id_];
}

void Engine::note_work(std::uint64_t ticket) {
  Tickets& encoded = thread_work().encoded;
  if (encoded.first == 0) encoded.first = ticket;
  encoded.last = ticket;
}

void Engine::renew_queue() {
  {
    const std::lock_guard lock(completion_->mutex);
    if (!completion_->queue_failed) return;
  }
  wait_until(false, [](const Completion& completion) { return completion.in_flight.empty(); });
  queue_ = device_.new_queue(limits_.in_flight + 2);
  counters_->queues.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard lock(completion_->mutex);
  completion_->queue_failed = false;
}

void Engine::begin_op(std::string_view op) {
  if (!encoding_.buffer_) {
    renew_queue();
    encoding_.buffer_ = queue_.new_command_buffer();
    encoding_.ticket_ = last_ticket_ + 1;
    counters_->command_buffers.fetch_add(1, std::memory_order_relaxed);
  }
  const auto found = open_ops_.find(op);
  if (found == open_ops_.end()) {
    open_ops_.emplace(op, 1);
  } else {
    ++found->second;
  }
  ++open_count_;
  counters_->ops.fetch_add(1, std::memory_order_relaxed);
}

void Engine::end_op(Work work) {
  open_work_.flop += work.flop;
  open_work_.bytes += work.bytes;
  if (open_count_ >= limits_.ops || open_work_.flop >= limits_.flop || open_work_.bytes >= limits_.bytes)
    commit_open();
}

std::string Engine::op_summary() const {
  std::string summary;
  for (const auto& [op, count] : open_ops_) {
    summary += fmt::format("{}{}", summary.empty() ? "" : ", ", op);
    if (count > 1) summary += fmt::format(" x{}", count);
  }
  return summary;
}

void Engine::commit_open() {
  if (!encoding_.buffer_) return;
  encoding_.encoder_.end();
  wait_until(
      true, [this](const Completion& completion) { return completion.in_flight.size() < limits_.in_flight; });
  objc::CommandBuffer buffer = std::exchange(encoding_.buffer_, {});
  const std::string ops = op_summary();
  open_ops_.clear();
  open_count_ = 0;
  open_work_ = {};
  buffer.set_label(ops);
  const std::uint64_t ticket = ++last_ticket_;
  buffer.on_completed([completion = completion_, counters = counters_, faults = encoding_.faults_, ops,
                       ticket](const objc::Outcome& outcome) {
    const std::lock_guard lock(completion->mutex);
    Failure failure;
    failure.tickets = {ticket, std::numeric_limits<std::uint64_t>::max()};
    const std::string refused = faults->take(ticket);
    if (outcome.failed) {
      counters->failures.fetch_add(1, std::memory_order_relaxed);
      completion->queue_failed = true;
      failure.text =
          fmt::format("metal: the command buffer with {} failed: {}{}", ops, outcome.text, advice(outcome));
      failure.out_of_memory = outcome.code == objc::kOutOfMemoryCode;
      completion->add_failure(failure);
    } else if (!refused.empty()) {
      failure.text = refused;
      failure.bad_data = true;
      completion->add_failure(failure);
    }
    completion->in_flight.erase(ticket);
    completion->changed.notify_all();
  });
  {
    const std::lock_guard lock(completion_->mutex);
    completion_->in_flight.insert(ticket);
  }
  counters_->commits.fetch_add(1, std::memory_order_relaxed);
  buffer.commit();
}

void Engine::wait_until(bool stall, const std::function<bool(const Completion&)>& done) {
  std::unique_lock lock(completion_->mutex);
  if (done(*completion_)) return;
  counters_->waits.fetch_add(1, std::memory_order_relaxed);
  if (stall) counters_->stalls.fetch_add(1, std::memory_order_relaxed);
  completion_->changed.wait(lock, [&] { return done(*completion_); });
}

void Engine::flush() {
  const std::lock_guard lock(encode_mutex_);
  const objc::AutoreleasePool pool;
  commit_open();
}

bool Engine::idle() {
  const std::lock_guard lock(encode_mutex_);
  if (encoding_.buffer_) return false;
  const std::lock_guard completion_lock(completion_->mutex);
  return completion_->in_flight.empty();
}

std::uint64_t Engine::wait_for_all() {
  std::uint64_t last = 0;
  {
    const std::lock_guard lock(encode_mutex_);
    const objc::AutoreleasePool pool;
    commit_open();
    last = last_ticket_;
  }
  // Only what was given so far: other threads may go on encoding.
  wait_until(false, [last](const Completion& completion) {
    return completion.in_flight.empty() || *completion.in_flight.begin() > last;
  });
  return last;
}

void Engine::wait_idle() {
  wait_for_all();
}

void Engine::synchronize() {
  const std::uint64_t last = wait_for_all();
  const ThreadWork work = std::exchange(thread_work(), ThreadWork{{}, last});
  const bool has_work = work.encoded.first != 0;
  Failure told;  // all that this thread is told of, in one
  {
    const std::lock_guard lock(completion_->mutex);
    Tickets read = has_work ? work.encoded : Tickets{work.synchronized + 1, last};
    for (const Failure& failure : completion_->failures) {
      if (!has_work && work.synchronized == 0 && failure.known) read.first = failure.tickets.last + 1;
    }
    told.command_buffers = 0;
    for (Failure& failure : completion_->failures) {
      if (failure.tickets.first > read.last || failure.tickets.last < read.first) continue;
      if (told.text.empty() || (told.bad_data && !failure.bad_data)) {
        told.text = failure.text;
        told.bad_data = failure.bad_data;
      }
      told.command_buffers += failure.command_buffers;
      told.out_of_memory = told.out_of_memory || failure.out_of_memory;
      if (!std::exchange(failure.told, true)) failure.tickets.last = last;
      failure.known = failure.known || has_work;
    }
  }
  if (told.text.empty()) return;
  if (told.out_of_memory && trim_) trim_();
  if (told.bad_data) throw InvalidArgument(told.text);
  std::string text = told.text;
  if (told.command_buffers > 1)
    text += fmt::format(" (and {} more command buffers after it)", told.command_buffers - 1);
  if (told.out_of_memory) text += "; use a smaller batch or a shorter maximum length";
  throw DeviceError(text);
}

}  // namespace candela::metal
