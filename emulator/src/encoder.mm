#include <algorithm>
#include <array>
#include <cstring>

#include "command.h"

namespace emulator {
namespace {

struct EncoderState : ObjectState {
  EncoderState(const char* name, id buffer, const char* method, bool concurrent)
      : ObjectState(name), command_buffer(buffer), record(target().open(method, this, concurrent)) {}
  ~EncoderState() override {
    if (!ended)
      State::get().fault("encoder-not-ended",
                         std::string(class_name) + ": Command encoder released without endEncoding");
  }
  CommandBufferState& target() const { return state_of<CommandBufferState>(command_buffer.get()); }
  void check_open(const char* method) const {
    check(!ended, method, "encoder has already ended: endEncoding was called");
  }

  const Ref command_buffer;
  const std::shared_ptr<EncoderRecord> record;
  bool ended = false;
  int groups = 0;
};

/// What is bound at one buffer index: a buffer from an offset, or a copy of the bytes given.
struct Slot {
  Ref buffer;
  NSUInteger offset = 0;
  std::shared_ptr<std::vector<std::byte>> bytes;

  bool bound() const { return buffer.get() != nil || bytes != nullptr; }
};

struct ComputeState final : EncoderState {
  ComputeState(id buffer, MTLDispatchType dispatch_type)
      : EncoderState("MTLComputeCommandEncoder", buffer, "-[MTLCommandBuffer computeCommandEncoder]",
                     dispatch_type == MTLDispatchTypeConcurrent),
        type(dispatch_type) {
    State::get().count(&Counters::compute_encoders);
  }
  const MTLDispatchType type;
  Ref pipeline;
  std::array<Slot, kMaxBuffers> slots;
  std::array<std::size_t, kMaxThreadgroupArguments> threadgroup_lengths{};
};

/// A dispatch as it was encoded.
struct Dispatch {
  const PipelineState* pipeline = nullptr;
  std::vector<Binding> bindings;
  std::vector<std::shared_ptr<std::vector<std::byte>>> bytes;
  std::vector<std::size_t> threadgroup_lengths;
  Grid grid;

  void run() const {
    const std::uint64_t limit = State::get().limits().watchdog_threads;
    if (limit > 0 && grid.threadgroups.count() * grid.threads_per_threadgroup.count() > limit)
      throw ExecutionError{kInteractivityError, "", std::string(pipeline->kernel.name)};
    launch(pipeline->kernel, bindings, threadgroup_lengths, pipeline->constants, grid);
  }
};

/// True if the parameter exists in this specialisation: it has no condition, or its function constant is
/// true.
bool is_enabled(const Argument& argument, const PipelineState& pipeline) {
  if (argument.condition.empty()) return true;
  for (const FunctionConstant& constant : pipeline.kernel.function_constants) {
    if (constant.name != argument.condition) continue;
    const auto* value = pipeline.constants.find(constant.index, constant.name);
    return value && std::to_integer<int>(value->bytes[0]) != 0;
  }
  return false;
}

std::string size_text(const char* name, MTLSize size) {
  return text("(%s.width(%lu) * %s.height(%lu) * %s.depth(%lu))", name, size.width, name, size.height, name,
              size.depth);
}

/// The number of elements, or nothing if it does not fit 32 bits a side.
bool fits(MTLSize size) {
  constexpr NSUInteger limit = 0xffffffff;
  return size.width <= limit && size.height <= limit && size.depth <= limit;
}

void check_threads(const char* method, MTLSize threads, const PipelineState& pipeline) {
  check(threads.width > 0 && threads.height > 0 && threads.depth > 0, method,
        "threadsPerThreadgroup must be > 0 in every dimension.");
  const bool small = threads.width <= kMaxThreadsPerThreadgroup &&
                     threads.height <= kMaxThreadsPerThreadgroup &&
                     threads.depth <= kMaxThreadsPerThreadgroup;
  const NSUInteger total = threads.width * threads.height * threads.depth;
  if (!small || total > kMaxThreadsPerThreadgroup)
    refuse(method, size_text("threadsPerThreadgroup", threads) +
                       text("(%lu) must be <= %zu. (device threadgroup size limit)", total,
                            kMaxThreadsPerThreadgroup));
  if (total > pipeline.max_threads)
    refuse(method,
           size_text("threadsPerThreadgroup", threads) +
               text("(%lu) must be <= %lu. (kernel threadgroup size limit)", total, pipeline.max_threads));
}

Binding checked_binding(const char* method, const Kernel& kernel, const Argument& argument,
                        const Slot& slot) {
  const std::string function(kernel.name), name(argument.name);
  if (!slot.bound())
    refuse(method, text("Compute Function(%s): missing buffer binding at index %u for %s[0].",
                        function.c_str(), argument.index, name.c_str()));
  Binding binding;
  binding.bound = true;
  if (slot.bytes) {
    binding.data = slot.bytes->data();
    binding.bytes = slot.bytes->size();
    binding.label = "setBytes";
  } else {
    const BufferState& buffer = buffer_state(slot.buffer.get());
    binding.data = buffer.data + slot.offset;
    binding.bytes = buffer.length - slot.offset;
    binding.label = buffer.label();
    if (argument.alignment > 0 && slot.offset % argument.alignment != 0)
      refuse(
          method,
          text("Compute Function(%s): the offset %lu into the buffer bound at index %u must be a multiple of "
               "%zu for %s[0].",
               function.c_str(), slot.offset, argument.index, argument.alignment, name.c_str()));
  }
  // For a pointer as for a reference: what lies behind it is one element at least.
  if (binding.bytes < argument.element_bytes)
    refuse(
        method,
        text(
            "Compute Function(%s): argument %s[0] from buffer(%u) with offset(%lu) and length(%zu) has space "
            "for %zu bytes, but argument has a length(%zu).",
            function.c_str(), name.c_str(), argument.index, slot.offset, binding.bytes + slot.offset,
            binding.bytes, argument.element_bytes));
  return binding;
}

/// Checks everything that the launch needs and encodes it.
void encode_dispatch(const char* method, ComputeState& encoder, const Grid& grid, MTLSize threads_per_group) {
  check(encoder.pipeline.get() != nil, method, "a compute pipeline state must be set before a dispatch.");
  const PipelineState& pipeline = state_of<PipelineState>(encoder.pipeline.get());
  check_threads(method, threads_per_group, pipeline);

  auto dispatch = std::make_shared<Dispatch>();
  dispatch->pipeline = &pipeline;
  dispatch->grid = grid;
  const bool retain = encoder.target().retained;
  Command command{std::string(pipeline.kernel.name), {}, {}};
  command.keep.emplace_back(encoder.pipeline.get(), retain);
  std::size_t threadgroup_bytes = pipeline.kernel.static_threadgroup_bytes();
  for (const Argument& argument : pipeline.kernel.arguments) {
    if (!is_enabled(argument, pipeline)) continue;
    if (argument.kind == ArgumentKind::Threadgroup) {
      const std::size_t length = encoder.threadgroup_lengths.at(argument.index);
      if (length == 0)
        refuse(method, text("Compute Function(%s): missing threadgroup memory length at index %u for %s[0].",
                            command.name.c_str(), argument.index, std::string(argument.name).c_str()));
      dispatch->threadgroup_lengths.resize(
          std::max<std::size_t>(dispatch->threadgroup_lengths.size(), argument.index + 1));
      dispatch->threadgroup_lengths[argument.index] = length;
      threadgroup_bytes += length;
      continue;
    }
    const Slot& slot = encoder.slots.at(argument.index);
    dispatch->bindings.resize(std::max<std::size_t>(dispatch->bindings.size(), argument.index + 1));
    dispatch->bindings[argument.index] = checked_binding(method, pipeline.kernel, argument, slot);
    if (slot.bytes) {
      dispatch->bytes.push_back(slot.bytes);
    } else {
      command.keep.emplace_back(slot.buffer.get(), retain);
    }
  }
  if (threadgroup_bytes > kMaxThreadgroupMemory)
    refuse(method,
           text("Compute Function(%s): Threadgroup memory size (%zu) exceeds the maximum threadgroup memory "
                "allowed (%zu)",
                command.name.c_str(), threadgroup_bytes, kMaxThreadgroupMemory));
  command.run = [dispatch] { dispatch->run(); };
  encoder.record->add(std::move(command));
  State::get().count(&Counters::dispatches);
}

Size3 size3(MTLSize size) {
  return {static_cast<std::uint32_t>(size.width), static_cast<std::uint32_t>(size.height),
          static_cast<std::uint32_t>(size.depth)};
}

void check_grid(const char* method, const char* what, MTLSize size) {
  if (size.width == 0 || size.height == 0 || size.depth == 0 || !fits(size))
    refuse(method, text("%s must be > 0 and fit 32 bits in every dimension; got (%lu, %lu, %lu).", what,
                        size.width, size.height, size.depth));
}

void end(EncoderState& encoder, id self) {
  encoder.check_open("-[MTLCommandEncoder endEncoding]");
  encoder.ended = true;
  encoder.record->label = encoder.label();
  (void)self;
  encoder.target().close(&encoder);
}

}  // namespace
}  // namespace emulator

using emulator::check;
using emulator::ComputeState;
using emulator::EncoderState;
using emulator::refuse;
using emulator::Slot;
using emulator::state_of;
using emulator::text;

namespace {

constexpr auto& encoder_of = state_of<EncoderState>;

ComputeState& open_compute(id self, const char* method) {
  ComputeState& state = state_of<ComputeState>(self);
  state.check_open(method);
  return state;
}

void check_index(const char* method, NSUInteger index) {
  if (index >= emulator::kMaxBuffers)
    refuse(method, text("index(%lu) must be < %zu.", index, emulator::kMaxBuffers));
}

void insert_signpost(id self, NSString* string) {
  encoder_of(self).check_open("-[MTLCommandEncoder insertDebugSignpost:]");
  encoder_of(self).record->signposts.push_back(emulator::to_string(string));
}

void push_group(id self, NSString* string) {
  encoder_of(self).check_open("-[MTLCommandEncoder pushDebugGroup:]");
  encoder_of(self).record->signposts.push_back(emulator::to_string(string));
  ++encoder_of(self).groups;
}

void pop_group(id self) {
  EncoderState& state = encoder_of(self);
  state.check_open("-[MTLCommandEncoder popDebugGroup]");
  check(state.groups > 0, "-[MTLCommandEncoder popDebugGroup]", "popDebugGroup without pushDebugGroup:");
  --state.groups;
}

}  // namespace

@implementation EmulatorComputeEncoder
@dynamic label;

+ (instancetype)encoderFor:(EmulatorCommandBuffer*)commandBuffer type:(MTLDispatchType)type {
  state_of<emulator::CommandBufferState>(commandBuffer)
      .check_encodable("-[MTLCommandBuffer computeCommandEncoder]");
  return [[[self alloc] initWithState:new ComputeState(commandBuffer, type)] autorelease];
}
- (id<MTLDevice>)device {
  return emulator::device();
}
- (MTLDispatchType)dispatchType {
  return state_of<ComputeState>(self).type;
}
- (void)endEncoding {
  emulator::end(encoder_of(self), self);
}
- (void)insertDebugSignpost:(NSString*)string {
  insert_signpost(self, string);
}
- (void)pushDebugGroup:(NSString*)string {
  push_group(self, string);
}
- (void)popDebugGroup {
  pop_group(self);
}

- (void)setComputePipelineState:(id<MTLComputePipelineState>)pipeline {
  const char* method = "-[MTLComputeCommandEncoder setComputePipelineState:]";
  ComputeState& state = open_compute(self, method);
  check(pipeline != nil, method, "computePipelineState must not be nil.");
  check([pipeline isKindOfClass:[EmulatorPipeline class]], method,
        "computePipelineState is of another device.");
  state.pipeline = emulator::Ref(pipeline);
}
- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  const char* method = "-[MTLComputeCommandEncoder setBytes:length:atIndex:]";
  ComputeState& state = open_compute(self, method);
  check_index(method, index);
  check(bytes != nullptr, method, "bytes must not be NULL.");
  check(length > 0, method, "length(0) must be > 0.");
  if (length > emulator::kMaxSetBytes)
    refuse(method, text("length(%lu) must be <= %lu.", length, emulator::kMaxSetBytes));
  Slot slot;
  slot.bytes = std::make_shared<std::vector<std::byte>>(length);
  std::memcpy(slot.bytes->data(), bytes, length);
  state.slots[index] = std::move(slot);
}
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  const char* method = "-[MTLComputeCommandEncoder setBuffer:offset:atIndex:]";
  ComputeState& state = open_compute(self, method);
  check_index(method, index);
  if (buffer == nil) {
    check(offset == 0, method, "offset must be 0 for a nil buffer.");
    state.slots[index] = Slot{};
    return;
  }
  if (offset >= [buffer length])
    refuse(method, text("offset(%lu) must be < [buffer length](%lu).", offset, [buffer length]));
  Slot slot;
  slot.buffer = emulator::Ref(buffer, state.target().retained);
  slot.offset = offset;
  state.slots[index] = std::move(slot);
}
- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
  const char* method = "-[MTLComputeCommandEncoder setBufferOffset:atIndex:]";
  ComputeState& state = open_compute(self, method);
  check_index(method, index);
  Slot& slot = state.slots[index];
  if (!slot.buffer.get()) refuse(method, text("no buffer is set at index(%lu).", index));
  const NSUInteger length = [static_cast<id<MTLBuffer>>(slot.buffer.get()) length];
  if (offset >= length) refuse(method, text("offset(%lu) must be < [buffer length](%lu).", offset, length));
  slot.offset = offset;
}
- (void)setBuffers:(const id<MTLBuffer>[])buffers
           offsets:(const NSUInteger[])offsets
         withRange:(NSRange)range {
  check(range.location < emulator::kMaxBuffers && range.length <= emulator::kMaxBuffers - range.location,
        "-[MTLComputeCommandEncoder setBuffers:offsets:withRange:]",
        "the range must end at or before index 31.");
  for (NSUInteger i = 0; i < range.length; ++i)
    [self setBuffer:buffers[i] offset:offsets[i] atIndex:range.location + i];
}
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
  const char* method = "-[MTLComputeCommandEncoder setThreadgroupMemoryLength:atIndex:]";
  ComputeState& state = open_compute(self, method);
  check_index(method, index);
  if (length % 16 != 0) refuse(method, text("length(%lu) must be a multiple of 16 bytes.", length));
  if (length > emulator::kMaxThreadgroupMemory)
    refuse(method, text("length(%lu) must be <= %zu.", length, emulator::kMaxThreadgroupMemory));
  state.threadgroup_lengths[index] = length;
}
- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)threads {
  const char* method = "-[MTLComputeCommandEncoder dispatchThreadgroups:threadsPerThreadgroup:]";
  ComputeState& state = open_compute(self, method);
  emulator::check_grid(method, "threadgroupsPerGrid", groups);
  emulator::encode_dispatch(
      method, state, emulator::Grid::of_threadgroups(emulator::size3(groups), emulator::size3(threads)),
      threads);
}
- (void)dispatchThreads:(MTLSize)grid threadsPerThreadgroup:(MTLSize)threads {
  const char* method = "-[MTLComputeCommandEncoder dispatchThreads:threadsPerThreadgroup:]";
  ComputeState& state = open_compute(self, method);
  emulator::check_grid(method, "threadsPerGrid", grid);
  check(threads.width > 0 && threads.height > 0 && threads.depth > 0, method,
        "threadsPerThreadgroup must be > 0 in every dimension.");
  emulator::encode_dispatch(
      method, state, emulator::Grid::of_threads(emulator::size3(grid), emulator::size3(threads)), threads);
}
- (void)updateFence:(id<MTLFence>)fence {
  const char* method = "-[MTLComputeCommandEncoder updateFence:]";
  open_compute(self, method);
  check(fence != nil, method, "fence must not be nil.");
}
- (void)waitForFence:(id<MTLFence>)fence {
  const char* method = "-[MTLComputeCommandEncoder waitForFence:]";
  open_compute(self, method);
  check(fence != nil, method, "fence must not be nil.");
}
- (void)useResource:(id<MTLResource>)resource usage:(MTLResourceUsage)usage {
  const char* method = "-[MTLComputeCommandEncoder useResource:usage:]";
  open_compute(self, method);
  check(resource != nil && usage != 0, method, "resource must not be nil and usage not 0.");
}
- (void)useHeap:(id<MTLHeap>)heap {
  const char* method = "-[MTLComputeCommandEncoder useHeap:]";
  open_compute(self, method);
  check(heap != nil, method, "heap must not be nil.");
}
- (void)memoryBarrierWithScope:(MTLBarrierScope)scope {
  const char* method = "-[MTLComputeCommandEncoder memoryBarrierWithScope:]";
  ComputeState& state = open_compute(self, method);
  check((scope & MTLBarrierScopeRenderTargets) == 0, method, "scope must not contain render targets.");
  if (scope & MTLBarrierScopeBuffers) state.record->barrier();
}
- (void)memoryBarrierWithResources:(const id<MTLResource>[])resources count:(NSUInteger)count {
  const char* method = "-[MTLComputeCommandEncoder memoryBarrierWithResources:count:]";
  ComputeState& state = open_compute(self, method);
  check(resources != nullptr && count > 0, method, "count must be > 0.");
  state.record->barrier();
}

@end

@implementation EmulatorBlitEncoder
@dynamic label;

+ (instancetype)encoderFor:(EmulatorCommandBuffer*)commandBuffer {
  const char* method = "-[MTLCommandBuffer blitCommandEncoder]";
  state_of<emulator::CommandBufferState>(commandBuffer).check_encodable(method);
  emulator::State::get().count(&emulator::Counters::blit_encoders);
  return [[[self alloc] initWithState:new EncoderState("MTLBlitCommandEncoder", commandBuffer, method, false)]
      autorelease];
}
- (id<MTLDevice>)device {
  return emulator::device();
}
- (void)endEncoding {
  emulator::end(encoder_of(self), self);
}
- (void)insertDebugSignpost:(NSString*)string {
  insert_signpost(self, string);
}
- (void)pushDebugGroup:(NSString*)string {
  push_group(self, string);
}
- (void)popDebugGroup {
  pop_group(self);
}

- (void)synchronizeResource:(id<MTLResource>)resource {
  const char* method = "-[MTLBlitCommandEncoder synchronizeResource:]";
  encoder_of(self).check_open(method);
  check(resource != nil, method, "resource must not be nil.");
  check([resource storageMode] == MTLStorageModeManaged, method,
        "storageMode must be MTLStorageModeManaged.");
}
- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
  const char* method = "-[MTLBlitCommandEncoder fillBuffer:range:value:]";
  EncoderState& state = encoder_of(self);
  state.check_open(method);
  check(buffer != nil, method, "buffer must not be nil.");
  check(range.length > 0, method, "range.length must be > 0.");
  check(range.location % 4 == 0 && range.length % 4 == 0, method,
        "range.location and range.length must be multiples of 4.");
  const NSUInteger length = [buffer length];
  if (range.location > length || range.length > length - range.location)
    refuse(method, text("(range.location + range.length)(%lu) must be <= [buffer length](%lu).",
                        range.location + range.length, length));
  std::byte* bytes = emulator::buffer_state(buffer).data + range.location;
  emulator::Command command{
      "fillBuffer", [bytes, range, value] { std::memset(bytes, value, range.length); }, {}};
  command.keep.emplace_back(buffer, state.target().retained);
  state.record->add(std::move(command));
}
- (void)copyFromBuffer:(id<MTLBuffer>)source
          sourceOffset:(NSUInteger)sourceOffset
              toBuffer:(id<MTLBuffer>)destination
     destinationOffset:(NSUInteger)destinationOffset
                  size:(NSUInteger)size {
  const char* method =
      "-[MTLBlitCommandEncoder copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:]";
  EncoderState& state = encoder_of(self);
  state.check_open(method);
  check(source != nil && destination != nil, method, "sourceBuffer and destinationBuffer must not be nil.");
  check(size > 0, method, "size must be > 0.");
  check(sourceOffset % 4 == 0 && destinationOffset % 4 == 0 && size % 4 == 0, method,
        "sourceOffset, destinationOffset and size must be multiples of 4 in macOS.");
  const NSUInteger from = [source length], to = [destination length];
  if (sourceOffset > from || size > from - sourceOffset)
    refuse(method, text("(sourceOffset(%lu) + size(%lu)) must be <= [sourceBuffer length](%lu).",
                        sourceOffset, size, from));
  if (destinationOffset > to || size > to - destinationOffset)
    refuse(method, text("(destinationOffset(%lu) + size(%lu)) must be <= [destinationBuffer length](%lu).",
                        destinationOffset, size, to));
  const std::byte* read = emulator::buffer_state(source).data + sourceOffset;
  std::byte* write = emulator::buffer_state(destination).data + destinationOffset;
  check(source != destination || read + size <= write || write + size <= read, method,
        "the source and destination ranges must not overlap.");
  emulator::Command command{"copyFromBuffer", [=] { std::memcpy(write, read, size); }, {}};
  command.keep.emplace_back(source, state.target().retained);
  command.keep.emplace_back(destination, state.target().retained);
  state.record->add(std::move(command));
}
- (void)updateFence:(id<MTLFence>)fence {
  encoder_of(self).check_open("-[MTLBlitCommandEncoder updateFence:]");
  check(fence != nil, "-[MTLBlitCommandEncoder updateFence:]", "fence must not be nil.");
}
- (void)waitForFence:(id<MTLFence>)fence {
  encoder_of(self).check_open("-[MTLBlitCommandEncoder waitForFence:]");
  check(fence != nil, "-[MTLBlitCommandEncoder waitForFence:]", "fence must not be nil.");
}

@end
