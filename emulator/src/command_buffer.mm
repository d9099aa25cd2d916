#include <chrono>
#include <new>

#include "command.h"

NSErrorDomain const MTLCommandBufferErrorDomain = @"MTLCommandBufferErrorDomain";
NSErrorUserInfoKey const MTLCommandBufferEncoderInfoErrorKey = @"MTLCommandBufferEncoderInfoErrorKey";

namespace emulator {
namespace {

// How long a command buffer waits for an event before it counts as hung, as the GPU's watchdog does.
constexpr double kEventSeconds = 4;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

const char* description_of(int code) {
  switch (code) {
    case MTLCommandBufferErrorTimeout:
      return "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)";
    case MTLCommandBufferErrorPageFault:
      return "Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)";
    case MTLCommandBufferErrorAccessRevoked:
      return "Ignored (for causing prior/excessive GPU errors) "
             "(00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)";
    case kInteractivityError:
      return "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)";
    case MTLCommandBufferErrorOutOfMemory:
      return "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)";
    case MTLCommandBufferErrorInvalidResource:
      return "Invalid Resource (00000009:kIOGPUCommandBufferCallbackErrorInvalidResource)";
    default:
      return "Internal Error (0000000e:Internal Error)";
  }
}

struct EncoderInfoState final : ObjectState {
  EncoderInfoState(const EncoderRecord& record, NSArray* posts)
      : ObjectState("MTLCommandBufferEncoderInfo"), state(record.state), signposts(posts) {
    set_label(record.label);
  }
  const MTLCommandEncoderErrorState state;
  const Ref signposts;
};

void run_command(const Command& command) {
  for (const Ref& used : command.keep)
    if (is_freed(used.get()))
      throw ExecutionError{MTLCommandBufferErrorInvalidResource, "unretained",
                           command.name +
                               ": uses an object that was freed before the command buffer with unretained "
                               "references completed"};
  try {
    command.run();
  } catch (const ShaderFault& fault) {
    throw ExecutionError{MTLCommandBufferErrorPageFault, "shader", fault.what()};
  } catch (const std::bad_alloc&) {
    throw ExecutionError{MTLCommandBufferErrorOutOfMemory, "", command.name + ": the host is out of memory"};
  }
}

}  // namespace
}  // namespace emulator

@interface EmulatorEncoderInfo : EmulatorObject <MTLCommandBufferEncoderInfo>
@end

@implementation EmulatorEncoderInfo
@dynamic label;

- (NSArray*)debugSignposts {
  return emulator::state_of<emulator::EncoderInfoState>(self).signposts.get();
}
- (MTLCommandEncoderErrorState)errorState {
  return emulator::state_of<emulator::EncoderInfoState>(self).state;
}

@end

namespace emulator {

CommandBufferState::CommandBufferState(id queue_object, bool retain_references,
                                       MTLCommandBufferErrorOption options)
    : ObjectState("MTLCommandBuffer"),
      queue(queue_object),
      core(state_of<QueueState>(queue_object).core),
      retained(retain_references),
      error_options(options) {
  State::get().count(&Counters::command_buffers);
}

CommandBufferState::~CommandBufferState() {
  for (auto handler : scheduled_handlers) Block_release(handler);
  for (auto handler : completed_handlers) Block_release(handler);
  [error release];
  if (status() < MTLCommandBufferStatusCommitted) core->give_back_place(false);
}

void CommandBufferState::set_status(MTLCommandBufferStatus status) {
  {
    std::lock_guard lock(mutex);
    status_ = status;
  }
  changed.notify_all();
}

void CommandBufferState::check_encodable(const char* method) const {
  check(status() < MTLCommandBufferStatusCommitted, method, "_status < MTLCommandBufferStatusCommitted");
  check(open_encoder_ == nullptr, method, "A command encoder is already encoding to this command buffer");
}

std::shared_ptr<EncoderRecord> CommandBufferState::open(const char* method, const void* encoder,
                                                        bool concurrent) {
  check_encodable(method);
  open_encoder_ = encoder;
  auto record = std::make_shared<EncoderRecord>();
  record->concurrent = concurrent;
  records.push_back(record);
  return record;
}

void CommandBufferState::close(const void* encoder) {
  if (open_encoder_ == encoder) open_encoder_ = nullptr;
}

void CommandBufferState::run_records(ExecutionError* failure) {
  for (const auto& record : records) {
    if (failure->code != MTLCommandBufferErrorNone) break;
    try {
      for (auto& segment : record->segments) {
        // A concurrent encoder orders nothing between barriers; the last first shows a barrier that is
        // missing.
        if (record->concurrent) std::reverse(segment.begin(), segment.end());
        for (const Command& command : segment) run_command(command);
      }
      record->state = MTLCommandEncoderErrorStateCompleted;
    } catch (const ExecutionError& thrown) {
      *failure = thrown;
      record->state = MTLCommandEncoderErrorStateFaulted;
    } catch (const std::exception& thrown) {
      *failure = {MTLCommandBufferErrorInternal, "command", thrown.what()};
      record->state = MTLCommandEncoderErrorStateFaulted;
    }
  }
}

NSError* CommandBufferState::make_error(const ExecutionError& failure) const {
  std::string description = description_of(failure.code);
  if (!failure.text.empty()) description += ": " + failure.text;
  NSMutableDictionary* information = [NSMutableDictionary dictionary];
  [information setObject:to_ns(description) forKey:NSLocalizedDescriptionKey];
  if (error_options & MTLCommandBufferErrorOptionEncoderExecutionStatus) {
    NSMutableArray* encoders = [NSMutableArray array];
    for (const auto& record : records) {
      NSMutableArray* signposts = [NSMutableArray array];
      for (const auto& signpost : record->signposts) [signposts addObject:to_ns(signpost)];
      EmulatorEncoderInfo* info =
          [[EmulatorEncoderInfo alloc] initWithState:new EncoderInfoState(*record, signposts)];
      [encoders addObject:info];
      [info release];
    }
    [information setObject:encoders forKey:MTLCommandBufferEncoderInfoErrorKey];
  }
  const int code =
      failure.code == kInteractivityError ? static_cast<int>(MTLCommandBufferErrorInternal) : failure.code;
  return [[NSError alloc] initWithDomain:MTLCommandBufferErrorDomain code:code userInfo:information];
}

void CommandBufferState::call(std::vector<MTLCommandBufferHandler>* handlers, EmulatorCommandBuffer* self) {
  for (MTLCommandBufferHandler handler : *handlers) {
    try {
      handler(self);
    } catch (const std::exception& thrown) {
      State::get().fault("handler",
                         std::string("an exception left a command buffer's handler: ") + thrown.what());
    } catch (...) {
      State::get().fault("handler", "an exception left a command buffer's handler");
    }
    Block_release(handler);
  }
  handlers->clear();
}

void CommandBufferState::execute(EmulatorCommandBuffer* self) {
  kernel_start = now();
  set_status(MTLCommandBufferStatusScheduled);
  call(&scheduled_handlers, self);
  kernel_end = now();
  if (const double delay = State::get().limits().completion_delay_ms; delay > 0)
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(delay));

  gpu_start = now();
  ExecutionError failure{MTLCommandBufferErrorNone, "", ""};
  if (core->ignores()) {
    failure = {MTLCommandBufferErrorAccessRevoked, "", ""};
  } else if (injected_error != 0) {
    failure = {injected_error, "", ""};
    if (injected_error == MTLCommandBufferErrorTimeout || injected_error == MTLCommandBufferErrorPageFault)
      core->ignore();
  } else {
    run_records(&failure);
  }
  gpu_end = now();
  const bool failed = failure.code != MTLCommandBufferErrorNone;
  if (failed) {
    if (!failure.kind.empty()) State::get().fault(failure.kind, failure.text);
    NSError* made = make_error(failure);
    std::lock_guard lock(mutex);
    error = made;
  }
  records.clear();  // gives up the buffers and pipelines
  State::get().count(&Counters::completions);
  if (failed) State::get().count(&Counters::errors);
  set_status(failed ? MTLCommandBufferStatusError : MTLCommandBufferStatusCompleted);
  core->give_back_place(true);  // after the status, which a thread waiting for the place may look at
  call(&completed_handlers, self);
  {
    std::lock_guard lock(mutex);
    finished = true;
  }
  changed.notify_all();
}

void encode_mps(const char* method, id<MTLCommandBuffer> command_buffer, const std::string& name,
                const std::vector<id>& buffers, std::function<void()> run) {
  check(command_buffer != nil, method, "commandBuffer may not be nil.");
  CommandBufferState& state = command_buffer_state(command_buffer);
  state.check_encodable(method);
  auto record = std::make_shared<EncoderRecord>();
  record->label = name;
  Command command{name, std::move(run), {}};
  for (id buffer : buffers) command.keep.emplace_back(buffer, state.retained);
  record->add(std::move(command));
  state.records.push_back(std::move(record));
  State::get().count(&Counters::mps_encodes);
}

}  // namespace emulator

using emulator::check;
using emulator::CommandBufferState;
using emulator::Counters;
using emulator::State;
using emulator::state_of;

@implementation EmulatorCommandBuffer
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (id<MTLCommandQueue>)commandQueue {
  return state_of<CommandBufferState>(self).queue.get();
}
- (BOOL)retainedReferences {
  return state_of<CommandBufferState>(self).retained;
}
- (MTLCommandBufferErrorOption)errorOptions {
  return state_of<CommandBufferState>(self).error_options;
}
- (MTLCommandBufferStatus)status {
  return state_of<CommandBufferState>(self).status();
}
- (NSError*)error {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  std::lock_guard lock(state.mutex);
  return [[state.error retain] autorelease];
}
- (CFTimeInterval)kernelStartTime {
  return self.status >= MTLCommandBufferStatusCompleted ? state_of<CommandBufferState>(self).kernel_start : 0;
}
- (CFTimeInterval)kernelEndTime {
  return self.status >= MTLCommandBufferStatusCompleted ? state_of<CommandBufferState>(self).kernel_end : 0;
}
- (CFTimeInterval)GPUStartTime {
  return self.status >= MTLCommandBufferStatusCompleted ? state_of<CommandBufferState>(self).gpu_start : 0;
}
- (CFTimeInterval)GPUEndTime {
  return self.status >= MTLCommandBufferStatusCompleted ? state_of<CommandBufferState>(self).gpu_end : 0;
}

- (void)enqueue {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer enqueue]";
  check(state.status() < MTLCommandBufferStatusCommitted, method,
        "enqueue a command buffer that was already committed");
  check(state.status() == MTLCommandBufferStatusNotEnqueued, method,
        "enqueue an already enqueued command buffer");
  state.core->enqueue(self);
  state.set_status(MTLCommandBufferStatusEnqueued);
}
- (void)commit {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer commit]";
  check(state.status() < MTLCommandBufferStatusCommitted, method,
        "commit an already committed command buffer");
  check(!state.has_open_encoder(), method, "commit command buffer with uncommitted encoder");
  if (state.status() == MTLCommandBufferStatusNotEnqueued) state.core->enqueue(self);
  state.injected_error = State::get().next_command_buffer_error();
  State::get().count(&Counters::commits);
  state.set_status(MTLCommandBufferStatusCommitted);
  state.core->commit(self);
}
- (void)addScheduledHandler:(MTLCommandBufferHandler)block {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer addScheduledHandler:]";
  check(block != nil, method, "handler must not be nil");
  check(state.status() < MTLCommandBufferStatusCommitted, method,
        "Scheduled handler provided after commit call");
  state.scheduled_handlers.push_back(Block_copy(block));
}
- (void)addCompletedHandler:(MTLCommandBufferHandler)block {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer addCompletedHandler:]";
  check(block != nil, method, "handler must not be nil");
  check(state.status() < MTLCommandBufferStatusCommitted, method,
        "Completed handler provided after commit call");
  state.completed_handlers.push_back(Block_copy(block));
}
- (void)waitUntilScheduled {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer waitUntilScheduled]";
  check(state.status() >= MTLCommandBufferStatusCommitted, method,
        "waiting for a command buffer that was not committed");
  State::get().count(&Counters::waits);
  if (state.status() >= MTLCommandBufferStatusScheduled) return;
  check(!state.core->is_worker(), method, "a handler waits for a later command buffer of its own queue");
  State::get().count(&Counters::blocking_waits);
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return state.status() >= MTLCommandBufferStatusScheduled; });
}
- (void)waitUntilCompleted {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer waitUntilCompleted]";
  check(state.status() >= MTLCommandBufferStatusCommitted, method,
        "waiting for a command buffer that was not committed");
  State::get().count(&Counters::waits);
  if (state.core->is_worker()) {
    check(state.status() >= MTLCommandBufferStatusCompleted, method,
          "a handler waits for a later command buffer of its own queue");
    return;
  }
  std::unique_lock lock(state.mutex);
  if (state.finished) return;
  State::get().count(&Counters::blocking_waits);
  state.changed.wait(lock, [&] { return state.finished; });
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  return [EmulatorBlitEncoder encoderFor:self];
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [EmulatorComputeEncoder encoderFor:self type:MTLDispatchTypeSerial];
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  check(type <= MTLDispatchTypeConcurrent, "-[MTLCommandBuffer computeCommandEncoderWithDispatchType:]",
        "unknown dispatchType");
  return [EmulatorComputeEncoder encoderFor:self type:type];
}

- (void)addEventCommand:(id<MTLEvent>)event name:(const char*)name run:(std::function<void()>)run {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  auto record = std::make_shared<emulator::EncoderRecord>();
  record->label = name;
  emulator::Command command{name, std::move(run), {}};
  command.keep.emplace_back(event, state.retained);
  record->add(std::move(command));
  state.records.push_back(std::move(record));
}
- (void)encodeWaitForEvent:(id<MTLEvent>)event value:(uint64_t)value {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer encodeWaitForEvent:value:]";
  check(event != nil, method, "event must not be nil");
  check(state.status() < MTLCommandBufferStatusCommitted, method,
        "_status < MTLCommandBufferStatusCommitted");
  check(!state.has_open_encoder(), method, "encodeWaitForEvent:value: with uncommitted encoder");
  auto* target = &state_of<emulator::EventState>(event);
  [self addEventCommand:event
                   name:"encodeWaitForEvent"
                    run:[target, value] {
                      if (target->wait(value, emulator::kEventSeconds)) return;
                      throw emulator::ExecutionError{
                          MTLCommandBufferErrorTimeout, "event",
                          emulator::text("encodeWaitForEvent: the event never reached %lu",
                                         static_cast<unsigned long>(value))};
                    }];
}
- (void)encodeSignalEvent:(id<MTLEvent>)event value:(uint64_t)value {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  const char* method = "-[MTLCommandBuffer encodeSignalEvent:value:]";
  check(event != nil, method, "event must not be nil");
  check(state.status() < MTLCommandBufferStatusCommitted, method,
        "_status < MTLCommandBufferStatusCommitted");
  check(!state.has_open_encoder(), method, "encodeSignalEvent:value: with uncommitted encoder");
  auto* target = &state_of<emulator::EventState>(event);
  [self addEventCommand:event name:"encodeSignalEvent" run:[target, value] { target->signal(value); }];
}
- (void)pushDebugGroup:(NSString*)string {
  check(string != nil, "-[MTLCommandBuffer pushDebugGroup:]", "string must not be nil");
  ++state_of<CommandBufferState>(self).groups;
}
- (void)popDebugGroup {
  CommandBufferState& state = state_of<CommandBufferState>(self);
  check(state.groups > 0, "-[MTLCommandBuffer popDebugGroup]", "popDebugGroup without pushDebugGroup:");
  --state.groups;
}

@end
