#import <dispatch/dispatch.h>

#include <cstring>

#include "object.h"

namespace emulator {
namespace {

struct DataState final : ObjectState {
  DataState() : ObjectState("dispatch_data") {}
  ~DataState() override {
    if (!destructor) return;
    destructor();
    Block_release(destructor);
  }
  std::vector<char> copy;
  const void* bytes = nullptr;
  std::size_t size = 0;
  dispatch_block_t destructor = nil;
};

}  // namespace
}  // namespace emulator

@interface EmulatorDispatchData : EmulatorObject <OS_dispatch_data>
@end
@implementation EmulatorDispatchData
@end

dispatch_data_t dispatch_data_create(const void* buffer, size_t size, dispatch_queue_t queue,
                                     dispatch_block_t destructor) {
  emulator::check(queue == nil, "dispatch_data_create", "the stand-in has no dispatch queues: pass NULL");
  emulator::check(buffer != nullptr || size == 0, "dispatch_data_create", "buffer must not be NULL");
  auto* state = new emulator::DataState;
  state->size = size;
  if (destructor) {
    state->bytes = buffer;
    state->destructor = Block_copy(destructor);
  } else {
    state->copy.assign(static_cast<const char*>(buffer), static_cast<const char*>(buffer) + size);
    state->bytes = state->copy.data();
  }
  return [[EmulatorDispatchData alloc] initWithState:state];
}

size_t dispatch_data_get_size(dispatch_data_t data) {
  return emulator::state_of<emulator::DataState>(data).size;
}
void dispatch_release(id object) { [object release]; }
void dispatch_retain(id object) { [object retain]; }
