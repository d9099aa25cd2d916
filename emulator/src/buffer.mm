#include <cstdlib>
#include <cstring>

#include "objects.h"

namespace emulator {
namespace {

std::byte* allocate_pages(NSUInteger bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, kPageBytes, bytes) == 0 ? static_cast<std::byte*>(memory) : nullptr;
}

MTLStorageMode storage_of(MTLResourceOptions options) {
  return static_cast<MTLStorageMode>((options >> MTLResourceStorageModeShift) & 0xf);
}

void check_options(const char* method, MTLResourceOptions options) {
  const NSUInteger storage = storage_of(options);
  check(storage <= MTLStorageModePrivate, method,
        "Buffer Validation: storage mode must be shared, managed or private");
  check((options & 0xf) <= MTLCPUCacheModeWriteCombined, method, "Buffer Validation: unknown cpuCacheMode");
  check((options >> MTLResourceHazardTrackingModeShift) <= MTLHazardTrackingModeTracked, method,
        "Buffer Validation: unknown hazardTrackingMode");
}

}  // namespace

BufferState::BufferState(std::byte* bytes, NSUInteger count, MTLResourceOptions resource_options,
                         Owner memory_owner)
    : ObjectState("MTLBuffer"), data(bytes), length(count), options(resource_options), owner(memory_owner) {
  State::get().count(&Counters::buffers);
}

BufferState::~BufferState() {
  switch (owner) {
    case Owner::Self:
      std::free(data);
      State::get().free(length);
      break;
    case Owner::Heap:
      if (!aliasable) state_of<HeapState>(heap.get()).give_back(heap_offset, length);
      break;
    case Owner::Caller:
      State::get().free(length);
      if (deallocator) {
        deallocator(data, length);
        Block_release(deallocator);
      }
      break;
  }
}

id<MTLBuffer> make_buffer(const char* method, NSUInteger length, MTLResourceOptions options,
                          const void* copy_from) {
  check_options(method, options);
  check(length > 0, method, "Buffer Validation: Cannot create buffer of zero length.");
  const Limits limits = State::get().limits();
  if (length > limits.max_buffer)
    refuse(method, text("Buffer Validation: %s length 0x%lx must not exceed 0x%lx (maxBufferLength).", method,
                        length, static_cast<unsigned long>(limits.max_buffer)));
  if (!State::get().allocate(length)) return nil;
  std::byte* memory = allocate_pages(length);
  if (!memory) {
    State::get().free(length);
    return nil;
  }
  if (copy_from) {
    std::memcpy(memory, copy_from, length);
  } else {
    std::memset(memory, limits.fill_byte, length);
  }
  return [[EmulatorBuffer alloc]
      initWithState:new BufferState(memory, length, options, BufferState::Owner::Self)];
}

HeapState::HeapState(MTLHeapDescriptor* descriptor, std::byte* bytes)
    : ObjectState("MTLHeap"),
      size(descriptor.size),
      storage(descriptor.storageMode),
      cache(descriptor.cpuCacheMode),
      // Apple: the default of a heap is untracked, unlike that of the device.
      tracking(descriptor.hazardTrackingMode == MTLHazardTrackingModeTracked
                   ? MTLHazardTrackingModeTracked
                   : MTLHazardTrackingModeUntracked),
      type(descriptor.type),
      memory(bytes) {
  State::get().count(&Counters::heaps);
  if (tracking == MTLHazardTrackingModeUntracked) State::get().count(&Counters::untracked_heaps);
}

HeapState::~HeapState() {
  std::free(memory);
  State::get().free(size);
}

std::optional<NSUInteger> HeapState::take(NSUInteger bytes, NSUInteger alignment) {
  std::lock_guard lock(mutex_);
  NSUInteger offset = 0;
  for (const auto& [start, taken] : blocks_) {
    if (offset + bytes <= start) break;
    offset = (start + taken + alignment - 1) / alignment * alignment;
  }
  if (bytes > size || offset > size - bytes) return std::nullopt;
  blocks_.emplace(offset, bytes);
  return offset;
}

void HeapState::take_at(NSUInteger offset, NSUInteger bytes) {
  std::lock_guard lock(mutex_);
  blocks_.emplace(offset, bytes);
}

void HeapState::give_back(NSUInteger offset, NSUInteger bytes) {
  std::lock_guard lock(mutex_);
  for (auto [it, end] = blocks_.equal_range(offset); it != end; ++it) {
    if (it->second != bytes) continue;
    blocks_.erase(it);
    return;
  }
}

NSUInteger HeapState::used() {
  std::lock_guard lock(mutex_);
  NSUInteger total = 0;
  for (const auto& block : blocks_) total += block.second;
  return total;
}

NSUInteger HeapState::largest_gap(NSUInteger alignment) {
  std::lock_guard lock(mutex_);
  NSUInteger offset = 0, largest = 0;
  for (const auto& [start, taken] : blocks_) {
    if (start > offset) largest = std::max(largest, start - offset);
    offset = std::max(offset, (start + taken + alignment - 1) / alignment * alignment);
  }
  return offset < size ? std::max(largest, size - offset) : largest;
}

}  // namespace emulator

using emulator::BufferState;
using emulator::check;
using emulator::HeapState;
using emulator::state_of;

@implementation EmulatorBuffer
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (NSUInteger)length {
  return state_of<BufferState>(self).length;
}
- (NSUInteger)allocatedSize {
  return (self.length + emulator::kPageBytes - 1) / emulator::kPageBytes * emulator::kPageBytes;
}
- (uint64_t)gpuAddress {
  return reinterpret_cast<uint64_t>(state_of<BufferState>(self).data);
}
- (void*)contents {
  return self.storageMode == MTLStorageModePrivate ? nullptr : state_of<BufferState>(self).data;
}
- (void)didModifyRange:(NSRange)range {
  const char* method = "-[MTLBuffer didModifyRange:]";
  check(self.storageMode == MTLStorageModeManaged, method, "storageMode must be MTLStorageModeManaged");
  check(range.location <= self.length && range.length <= self.length - range.location, method,
        "range must lie within the buffer");
}
- (void)addDebugMarker:(NSString*)marker range:(NSRange)range {
  (void)marker;
  check(range.location <= self.length && range.length <= self.length - range.location,
        "-[MTLBuffer addDebugMarker:range:]", "range must lie within the buffer");
}
- (void)removeAllDebugMarkers {
}
- (MTLResourceOptions)resourceOptions {
  return state_of<BufferState>(self).options;
}
- (MTLCPUCacheMode)cpuCacheMode {
  return static_cast<MTLCPUCacheMode>(self.resourceOptions & 0xf);
}
- (MTLStorageMode)storageMode {
  return static_cast<MTLStorageMode>((self.resourceOptions >> MTLResourceStorageModeShift) & 0xf);
}
- (MTLHazardTrackingMode)hazardTrackingMode {
  const auto mode =
      static_cast<MTLHazardTrackingMode>(self.resourceOptions >> MTLResourceHazardTrackingModeShift);
  if (mode != MTLHazardTrackingModeDefault) return mode;
  return self.heap ? [self.heap hazardTrackingMode] : MTLHazardTrackingModeTracked;
}
- (id<MTLHeap>)heap {
  return state_of<BufferState>(self).heap.get();
}
- (NSUInteger)heapOffset {
  return state_of<BufferState>(self).heap_offset;
}
- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
  check(state == MTLPurgeableStateKeepCurrent || state == MTLPurgeableStateNonVolatile,
        "-[MTLBuffer setPurgeableState:]",
        "the stand-in keeps every buffer: only KeepCurrent and NonVolatile");
  return MTLPurgeableStateNonVolatile;
}
- (void)makeAliasable {
  BufferState& state = state_of<BufferState>(self);
  check(state.owner == BufferState::Owner::Heap, "-[MTLBuffer makeAliasable]",
        "the buffer is not from a heap");
  if (state.aliasable) return;
  state.aliasable = true;
  state_of<HeapState>(state.heap.get()).give_back(state.heap_offset, state.length);
}
- (BOOL)isAliasable {
  return state_of<BufferState>(self).aliasable;
}

@end

@implementation EmulatorHeap
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (MTLStorageMode)storageMode {
  return state_of<HeapState>(self).storage;
}
- (MTLCPUCacheMode)cpuCacheMode {
  return state_of<HeapState>(self).cache;
}
- (MTLHazardTrackingMode)hazardTrackingMode {
  return state_of<HeapState>(self).tracking;
}
- (MTLResourceOptions)resourceOptions {
  return static_cast<MTLResourceOptions>((self.storageMode << MTLResourceStorageModeShift) |
                                         (self.cpuCacheMode << MTLResourceCPUCacheModeShift) |
                                         (self.hazardTrackingMode << MTLResourceHazardTrackingModeShift));
}
- (MTLHeapType)type {
  return state_of<HeapState>(self).type;
}
- (NSUInteger)size {
  return state_of<HeapState>(self).size;
}
- (NSUInteger)usedSize {
  return state_of<HeapState>(self).used();
}
- (NSUInteger)currentAllocatedSize {
  return state_of<HeapState>(self).size;
}
- (NSUInteger)allocatedSize {
  return state_of<HeapState>(self).size;
}
- (NSUInteger)maxAvailableSizeWithAlignment:(NSUInteger)alignment {
  check(alignment > 0 && (alignment & (alignment - 1)) == 0, "-[MTLHeap maxAvailableSizeWithAlignment:]",
        "alignment must be a power of two");
  return state_of<HeapState>(self).largest_gap(alignment);
}
- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
  check(state == MTLPurgeableStateKeepCurrent || state == MTLPurgeableStateNonVolatile,
        "-[MTLHeap setPurgeableState:]", "the stand-in keeps every heap: only KeepCurrent and NonVolatile");
  return MTLPurgeableStateNonVolatile;
}

- (void)checkLength:(NSUInteger)length options:(MTLResourceOptions)options method:(const char*)method {
  check(length > 0, method, "Buffer Validation: Cannot create buffer of zero length.");
  check(((options >> MTLResourceStorageModeShift) & 0xf) == self.storageMode, method,
        "the storage mode of the options must be that of the heap");
  check((options & 0xf) == self.cpuCacheMode, method,
        "the cpuCacheMode of the options must be that of the heap");
}

- (id<MTLBuffer>)bufferAt:(NSUInteger)offset length:(NSUInteger)length options:(MTLResourceOptions)options {
  HeapState& heap = state_of<HeapState>(self);
  std::memset(heap.memory + offset, emulator::State::get().limits().fill_byte, length);
  auto* state = new BufferState(heap.memory + offset, length, options, BufferState::Owner::Heap);
  state->heap = emulator::Ref(self);
  state->heap_offset = offset;
  return [[EmulatorBuffer alloc] initWithState:state];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  const char* method = "-[MTLHeap newBufferWithLength:options:]";
  [self checkLength:length options:options method:method];
  HeapState& heap = state_of<HeapState>(self);
  check(heap.type == MTLHeapTypeAutomatic, method, "heap type must be MTLHeapTypeAutomatic");
  const auto offset = heap.take(length, emulator::kHeapAlignment);
  if (!offset) {
    emulator::State::get().count(&emulator::Counters::failed_allocations);
    return nil;
  }
  return [self bufferAt:*offset length:length options:options];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length
                             options:(MTLResourceOptions)options
                              offset:(NSUInteger)offset {
  const char* method = "-[MTLHeap newBufferWithLength:options:offset:]";
  [self checkLength:length options:options method:method];
  HeapState& heap = state_of<HeapState>(self);
  check(heap.type == MTLHeapTypePlacement, method, "heap type must be MTLHeapTypePlacement");
  check(offset % emulator::kHeapAlignment == 0, method, "offset must be a multiple of the alignment");
  check(length <= heap.size && offset <= heap.size - length, method,
        "offset plus length must lie within the heap");
  heap.take_at(offset, length);
  return [self bufferAt:offset length:length options:options];
}

@end
