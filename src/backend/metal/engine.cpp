#include "backend/metal/engine.h"

#include <candela/core/error.h>

namespace candela::metal {

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
    : device_(std::move(device)),
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

void Engine::begin_op(std::string_view op) {
  if (!encoding_.buffer_) {
    encoding_.buffer_ = queue_.new_command_buffer();
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
  buffer.on_completed([completion = completion_, counters = counters_, ops,
                       ticket](const objc::Outcome& outcome) {
    const std::lock_guard lock(completion->mutex);
    if (outcome.failed) {
      counters->failures.fetch_add(1, std::memory_order_relaxed);
      completion->out_of_memory = completion->out_of_memory || outcome.code == objc::kOutOfMemoryCode;
      completion->failures.push_back(fmt::format("the command buffer with {} failed: {}", ops, outcome.text));
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

void Engine::wait_idle() {
  std::uint64_t mine = 0;
  {
    const std::lock_guard lock(encode_mutex_);
    const objc::AutoreleasePool pool;
    commit_open();
    mine = last_ticket_;
  }
  // Only what was given so far: other threads may go on encoding.
  wait_until(false, [mine](const Completion& completion) {
    return completion.in_flight.empty() || *completion.in_flight.begin() > mine;
  });
}

void Engine::synchronize() {
  wait_idle();
  std::vector<std::string> failures;
  bool out_of_memory = false;
  {
    const std::lock_guard lock(completion_->mutex);
    failures.swap(completion_->failures);
    out_of_memory = std::exchange(completion_->out_of_memory, false);
  }
  if (failures.empty()) return;
  if (out_of_memory && trim_) trim_();
  std::string text = fmt::format("metal: {}", failures.front());
  if (failures.size() > 1)
    text += fmt::format(" (and {} more command buffers after it)", failures.size() - 1);
  if (out_of_memory) text += "; use a smaller batch or a shorter maximum length";
  throw DeviceError(text);
}

}  // namespace candela::metal
