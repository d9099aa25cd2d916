#import <Foundation/NSThread.h>

#include <algorithm>
#include <chrono>

#include "command.h"

namespace emulator {

void QueueCore::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  if (!thread_.joinable()) return;
  if (is_worker()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void QueueCore::take_place() {
  std::unique_lock lock(mutex_);
  if (outstanding_ >= limit_) {
    if (committed_outstanding_ == 0)
      refuse(
          "-[MTLCommandQueue commandBuffer]",
          text("%lu command buffers are uncompleted and none of them is committed: this call never returns",
               outstanding_));
    if (is_worker())
      refuse("-[MTLCommandQueue commandBuffer]", "a completed handler waits for a place in its own queue");
    State::get().count(&Counters::blocked_on_full_queue);
    place_.wait(lock, [&] { return outstanding_ < limit_; });
  }
  ++outstanding_;
  State::get().count_in_flight(outstanding_);
}

void QueueCore::give_back_place(bool committed) {
  {
    std::lock_guard lock(mutex_);
    --outstanding_;
    if (committed) --committed_outstanding_;
  }
  place_.notify_one();
}

void QueueCore::enqueue(EmulatorCommandBuffer* buffer) {
  [buffer retain];
  std::lock_guard lock(mutex_);
  order_.push_back({buffer, false});
}

void QueueCore::commit(EmulatorCommandBuffer* buffer) {
  {
    std::lock_guard lock(mutex_);
    for (Entry& entry : order_)
      if (entry.buffer == buffer) entry.committed = true;
    ++pending_;
    ++committed_outstanding_;
    if (!thread_.joinable()) {
      thread_ = std::thread([self = shared_from_this()] { self->work(); });
      worker_id_ = thread_.get_id();
    }
  }
  work_.notify_one();
}

bool QueueCore::wait_idle(double seconds) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return pending_ == 0; });
}

void QueueCore::work() {
  GSRegisterCurrentThread();
  mark_worker_thread();
  worker_id_ = std::this_thread::get_id();
  for (;;) {
    EmulatorCommandBuffer* next = nil;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return stopping_ || (!order_.empty() && order_.front().committed); });
      if (stopping_) break;
      next = order_.front().buffer;
      order_.pop_front();
    }
    @autoreleasepool {
      state_of<CommandBufferState>(next).execute(next);
      [next release];  // may free the queue, and so end this loop
    }
    {
      std::lock_guard lock(mutex_);
      --pending_;
    }
    idle_.notify_all();
  }
  GSUnregisterCurrentThread();
}

}  // namespace emulator

using emulator::QueueState;
using emulator::state_of;

@implementation EmulatorQueue
@dynamic label;

+ (instancetype)newWithLimit:(NSUInteger)limit {
  return [[self alloc] initWithState:new QueueState(limit)];
}
- (id<MTLDevice>)device {
  return emulator::device();
}
- (id<MTLCommandBuffer>)makeBuffer:(bool)retained options:(MTLCommandBufferErrorOption)options {
  state_of<QueueState>(self).core->take_place();
  return [[[EmulatorCommandBuffer alloc]
      initWithState:new emulator::CommandBufferState(self, retained, options)] autorelease];
}
- (id<MTLCommandBuffer>)commandBuffer {
  return [self makeBuffer:true options:MTLCommandBufferErrorOptionNone];
}
- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  return [self makeBuffer:false options:MTLCommandBufferErrorOptionNone];
}
- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor*)descriptor {
  emulator::check(descriptor != nil, "-[MTLCommandQueue commandBufferWithDescriptor:]",
                  "descriptor must not be nil");
  return [self makeBuffer:descriptor.retainedReferences options:descriptor.errorOptions];
}

@end
