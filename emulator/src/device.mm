#include <cstdlib>

#include "objects.h"

namespace emulator {
namespace {

struct DeviceState final : ObjectState {
  DeviceState() : ObjectState("device") {
    State::get().died("device");
  }  // never freed, so not counted as live
  std::atomic<std::int64_t> outside_references{0};
};

constexpr uint64_t kRegistryId = 0x100000abc;

}  // namespace

id<MTLDevice> device() {
  static EmulatorDevice* instance = [] {
    make_foundation_singletons();
    return [[EmulatorDevice alloc] initWithState:new DeviceState];
  }();
  return instance;
}

std::int64_t device_references() { return [static_cast<EmulatorDevice*>(device()) outsideReferences]; }

}  // namespace emulator

using emulator::BufferState;
using emulator::check;
using emulator::DeviceState;
using emulator::refuse;
using emulator::State;
using emulator::state_of;
using emulator::text;

id<MTLDevice> MTLCreateSystemDefaultDevice(void) { return [emulator::device() retain]; }

NSArray* MTLCopyAllDevices(void) { return [[NSArray alloc] initWithObjects:emulator::device(), nil]; }

@implementation EmulatorDevice

- (instancetype)retain {
  state_of<DeviceState>(self).outside_references.fetch_add(1);
  return self;
}
- (oneway void)release {
  if (state_of<DeviceState>(self).outside_references.fetch_sub(1) > 0) return;
  state_of<DeviceState>(self).outside_references.fetch_add(1);
  State::get().fault("over-release", "-[MTLDevice release]: released more often than retained");
}
- (NSUInteger)retainCount {
  return static_cast<NSUInteger>(state_of<DeviceState>(self).outside_references.load());
}
- (long long)outsideReferences {
  return state_of<DeviceState>(self).outside_references.load();
}

- (NSString*)name {
  return @"Candela emulated Metal device";
}
- (uint64_t)registryID {
  return emulator::kRegistryId;
}
- (MTLSize)maxThreadsPerThreadgroup {
  return MTLSizeMake(1024, 1024, 1024);
}
- (BOOL)isLowPower {
  return NO;
}
- (BOOL)isHeadless {
  return YES;
}
- (BOOL)isRemovable {
  return NO;
}
- (BOOL)hasUnifiedMemory {
  return YES;
}
- (uint64_t)recommendedMaxWorkingSetSize {
  return State::get().limits().working_set;
}
- (NSUInteger)currentAllocatedSize {
  return State::get().allocated();
}
- (NSUInteger)maxThreadgroupMemoryLength {
  return emulator::kMaxThreadgroupMemory;
}
- (NSUInteger)maxBufferLength {
  return State::get().limits().max_buffer;
}
- (BOOL)supportsFamily:(MTLGPUFamily)family {
  // An M1 (Apple7) under a system with Metal 3.
  if (family >= MTLGPUFamilyApple1 && family <= MTLGPUFamilyApple9) return family <= MTLGPUFamilyApple7;
  if (family >= MTLGPUFamilyCommon1 && family <= MTLGPUFamilyCommon3) return YES;
  return family == MTLGPUFamilyMac2 || family == MTLGPUFamilyMetal3;
}

- (id<MTLCommandQueue>)newCommandQueue {
  return [EmulatorQueue newWithLimit:emulator::kMaxCommandBuffers];
}
- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)count {
  check(count > 0, "-[MTLDevice newCommandQueueWithMaxCommandBufferCount:]",
        "maxCommandBufferCount must be > 0");
  return [EmulatorQueue newWithLimit:count];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  return emulator::make_buffer("-[MTLDevice newBufferWithLength:options:]", length, options, nullptr);
}
- (id<MTLBuffer>)newBufferWithBytes:(const void*)pointer
                             length:(NSUInteger)length
                            options:(MTLResourceOptions)options {
  const char* method = "-[MTLDevice newBufferWithBytes:length:options:]";
  check(pointer != nullptr, method, "Buffer Validation: pointer must not be NULL.");
  check(((options >> MTLResourceStorageModeShift) & 0xf) != MTLStorageModePrivate, method,
        "Buffer Validation: storage mode must not be private");
  return emulator::make_buffer(method, length, options, pointer);
}
- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void*)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void (^)(void*, NSUInteger))deallocator {
  const char* method = "-[MTLDevice newBufferWithBytesNoCopy:length:options:deallocator:]";
  check(pointer != nullptr && length > 0, method,
        "Buffer Validation: pointer must not be NULL and length not 0.");
  if (reinterpret_cast<uintptr_t>(pointer) % emulator::kPageBytes != 0)
    refuse(method, text("newBufferWithBytesNoCopy:pointer %p is not %zu byte aligned.", pointer,
                        emulator::kPageBytes));
  if (length % emulator::kPageBytes != 0)
    refuse(method, text("newBufferWithBytesNoCopy:length 0x%lx is not %zu byte aligned.", length,
                        emulator::kPageBytes));
  check(((options >> MTLResourceStorageModeShift) & 0xf) <= MTLStorageModeManaged, method,
        "Buffer Validation: storage mode must be shared or managed");
  if (length > self.maxBufferLength)
    refuse(method, text("Buffer Validation: length 0x%lx must not exceed 0x%lx (maxBufferLength).", length,
                        self.maxBufferLength));
  if (!State::get().allocate(length)) return nil;
  auto* state =
      new BufferState(static_cast<std::byte*>(pointer), length, options, BufferState::Owner::Caller);
  if (deallocator) state->deallocator = Block_copy(deallocator);
  return [[EmulatorBuffer alloc] initWithState:state];
}

- (MTLSizeAndAlign)heapBufferSizeAndAlignWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  (void)options;
  const NSUInteger align = emulator::kHeapAlignment;
  return {(length + align - 1) / align * align, align};
}
- (id<MTLHeap>)newHeapWithDescriptor:(MTLHeapDescriptor*)descriptor {
  const char* method = "-[MTLDevice newHeapWithDescriptor:]";
  check(descriptor != nil, method, "descriptor must not be nil");
  check(descriptor.size > 0, method, "Heap Descriptor Validation: size must be > 0");
  check(descriptor.storageMode == MTLStorageModeShared || descriptor.storageMode == MTLStorageModePrivate,
        method, "Heap Descriptor Validation: storageMode must be shared or private");
  check(descriptor.type == MTLHeapTypeAutomatic || descriptor.type == MTLHeapTypePlacement, method,
        "Heap Descriptor Validation: sparse heaps hold no buffers");
  if (!State::get().allocate(descriptor.size)) return nil;
  void* memory = nullptr;
  if (posix_memalign(&memory, emulator::kPageBytes, descriptor.size) != 0) {
    State::get().free(descriptor.size);
    return nil;
  }
  return [[EmulatorHeap alloc]
      initWithState:new emulator::HeapState(descriptor, static_cast<std::byte*>(memory))];
}

- (id<MTLFence>)newFence {
  return [[EmulatorFence alloc] initWithState:new emulator::ObjectState("MTLFence")];
}
- (id<MTLEvent>)newEvent {
  return [[EmulatorEvent alloc] initWithState:new emulator::EventState(false)];
}
- (id<MTLSharedEvent>)newSharedEvent {
  return [[EmulatorEvent alloc] initWithState:new emulator::EventState(true)];
}

- (id<MTLLibrary>)newDefaultLibrary {
  return nil;  // as for a program without a bundle: there is no default.metallib beside it
}
- (id<MTLLibrary>)newLibraryWithData:(dispatch_data_t)data error:(NSError**)error {
  check(data != nil, "-[MTLDevice newLibraryWithData:error:]", "data must not be nil.");
  emulator::set_error(
      error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
      text("the stand-in for Metal cannot load a compiled library (%zu bytes): pass the source text",
           dispatch_data_get_size(data)));
  return nil;
}
- (id<MTLLibrary>)newLibraryWithURL:(NSURL*)url error:(NSError**)error {
  check(url != nil, "-[MTLDevice newLibraryWithURL:error:]", "url must not be nil.");
  emulator::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                      "the stand-in for Metal cannot load a compiled library: pass the source text");
  return nil;
}
- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source
                               options:(MTLCompileOptions*)options
                                 error:(NSError**)error {
  return emulator::make_library(source, options, error);
}
- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function
                                                             error:(NSError**)error {
  check(function != nil, "-[MTLDevice newComputePipelineStateWithFunction:error:]",
        "computeFunction must not be nil.");
  return emulator::make_pipeline(function, 0, nil, error);
}
- (id<MTLComputePipelineState>)newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor*)descriptor
                                                             options:(MTLPipelineOption)options
                                                          reflection:
                                                              (MTLComputePipelineReflection**)reflection
                                                               error:(NSError**)error {
  const char* method = "-[MTLDevice newComputePipelineStateWithDescriptor:options:reflection:error:]";
  check(descriptor != nil && descriptor.computeFunction != nil, method, "computeFunction must not be nil.");
  check(options == MTLPipelineOptionNone && reflection == nullptr, method,
        "the stand-in gives no reflection");
  const NSUInteger threads = descriptor.maxTotalThreadsPerThreadgroup;
  check(threads <= emulator::kMaxThreadsPerThreadgroup, method,
        "maxTotalThreadsPerThreadgroup must be <= 1024");
  return emulator::make_pipeline(descriptor.computeFunction, threads, descriptor.label, error);
}

@end
