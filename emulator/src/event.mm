#include <chrono>

#include "objects.h"

namespace emulator {

void EventState::signal(std::uint64_t new_value) {
  {
    std::lock_guard lock(mutex);
    value = new_value;
  }
  changed.notify_all();
}

bool EventState::wait(std::uint64_t at_least, double seconds) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return value >= at_least; });
}

}  // namespace emulator

using emulator::EventState;
using emulator::state_of;

@implementation EmulatorEvent
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (uint64_t)signaledValue {
  EventState& event = state_of<EventState>(self);
  emulator::check(event.shared, "-[MTLEvent signaledValue]", "only a shared event has a value for the host");
  std::lock_guard lock(event.mutex);
  return event.value;
}
- (void)setSignaledValue:(uint64_t)value {
  EventState& event = state_of<EventState>(self);
  emulator::check(event.shared, "-[MTLEvent setSignaledValue:]",
                  "only a shared event has a value for the host");
  event.signal(value);
}
- (BOOL)waitUntilSignaledValue:(uint64_t)value timeoutMS:(uint64_t)milliseconds {
  EventState& event = state_of<EventState>(self);
  emulator::check(event.shared, "-[MTLEvent waitUntilSignaledValue:timeoutMS:]",
                  "only a shared event has a value for the host");
  return event.wait(value, static_cast<double>(milliseconds) / 1000);
}

@end

@implementation EmulatorFence
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}

@end
