#pragma once

#import <Metal/Metal.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <optional>

#include "object.h"
#include "shader/kernel.h"

namespace emulator {

inline constexpr std::size_t kPageBytes = 16384;  // the page of Apple silicon
inline constexpr NSUInteger kMaxSetBytes = 4096;
inline constexpr NSUInteger kMaxCommandBuffers = 64;
inline constexpr NSUInteger kHeapAlignment = 256;

/// The one device; lives for ever, and counts the references that the code under test holds.
id<MTLDevice> device();

struct HeapState final : ObjectState {
  HeapState(MTLHeapDescriptor* descriptor, std::byte* memory);
  ~HeapState() override;
  /// First fit; nothing if no gap is large enough.
  std::optional<NSUInteger> take(NSUInteger bytes, NSUInteger alignment);
  /// Placement heaps: resources may overlap.
  void take_at(NSUInteger offset, NSUInteger bytes);
  void give_back(NSUInteger offset, NSUInteger bytes);
  NSUInteger used();
  NSUInteger largest_gap(NSUInteger alignment);

  const NSUInteger size;
  const MTLStorageMode storage;
  const MTLCPUCacheMode cache;
  const MTLHazardTrackingMode tracking;
  const MTLHeapType type;
  std::byte* const memory;

 private:
  std::mutex mutex_;
  std::multimap<NSUInteger, NSUInteger> blocks_;  // offset to bytes
};

struct BufferState final : ObjectState {
  enum class Owner { Self, Heap, Caller };
  BufferState(std::byte* bytes, NSUInteger count, MTLResourceOptions resource_options, Owner memory_owner);
  ~BufferState() override;

  std::byte* const data;
  const NSUInteger length;
  const MTLResourceOptions options;
  const Owner owner;
  void (^deallocator)(void*, NSUInteger) = nil;  // a copied block, for Caller
  Ref heap;                                      // for Heap
  NSUInteger heap_offset = 0;
  bool aliasable = false;
};

struct EventState final : ObjectState {
  explicit EventState(bool is_shared)
      : ObjectState(is_shared ? "MTLSharedEvent" : "MTLEvent"), shared(is_shared) {}
  const bool shared;
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t value = 0;

  void signal(std::uint64_t new_value);
  bool wait(std::uint64_t at_least, double seconds);
};

struct LibraryState final : ObjectState {
  explicit LibraryState(const ShaderSource& from) : ObjectState("MTLLibrary"), source(from) {}
  const ShaderSource& source;
};

struct FunctionState final : ObjectState {
  FunctionState(const Kernel& from, FunctionConstants with)
      : ObjectState("MTLFunction"), kernel(from), constants(std::move(with)) {}
  const Kernel& kernel;
  const FunctionConstants constants;
};

struct PipelineState final : ObjectState {
  PipelineState(const FunctionState& function, NSUInteger threads)
      : ObjectState("MTLComputePipelineState"),
        kernel(function.kernel),
        constants(function.constants),
        max_threads(threads) {}
  const Kernel& kernel;
  const FunctionConstants constants;
  const NSUInteger max_threads;
};

struct FunctionConstantValuesState final : ObjectState {
  FunctionConstantValuesState() : ObjectState("MTLFunctionConstantValues") {}
  FunctionConstants values;
};

}  // namespace emulator

@interface EmulatorDevice : EmulatorObject <MTLDevice>
/// References held outside the stand-in.
- (long long)outsideReferences;
@end

@interface EmulatorBuffer : EmulatorObject <MTLBuffer>
@end

@interface EmulatorHeap : EmulatorObject <MTLHeap>
@end

@interface EmulatorEvent : EmulatorObject <MTLSharedEvent>
@end

@interface EmulatorFence : EmulatorObject <MTLFence>
@end

@interface EmulatorLibrary : EmulatorObject <MTLLibrary>
@end

@interface EmulatorFunction : EmulatorObject <MTLFunction>
@end

@interface EmulatorPipeline : EmulatorObject <MTLComputePipelineState>
@end

@interface EmulatorQueue : EmulatorObject <MTLCommandQueue>
+ (instancetype)newWithLimit:(NSUInteger)limit NS_RETURNS_RETAINED;
@end

@interface EmulatorCommandBuffer : EmulatorObject <MTLCommandBuffer>
@end

@interface EmulatorComputeEncoder : EmulatorObject <MTLComputeCommandEncoder>
/// Autoreleased.
+ (instancetype)encoderFor:(EmulatorCommandBuffer*)commandBuffer type:(MTLDispatchType)type;
@end

@interface EmulatorBlitEncoder : EmulatorObject <MTLBlitCommandEncoder>
/// Autoreleased.
+ (instancetype)encoderFor:(EmulatorCommandBuffer*)commandBuffer;
@end

namespace emulator {

inline BufferState& buffer_state(id<MTLBuffer> buffer) { return state_of<BufferState>(buffer); }

/// A new buffer from the device or nil, with the checks and the accounting of -newBufferWithLength:options:.
/// `copy_from` may be null.
id<MTLBuffer> make_buffer(const char* method, NSUInteger length, MTLResourceOptions options,
                          const void* copy_from) NS_RETURNS_RETAINED;

id<MTLLibrary> make_library(NSString* source, MTLCompileOptions* options,
                            NSError** error) NS_RETURNS_RETAINED;

/// `threads` caps maxTotalThreadsPerThreadgroup; 0 leaves it to the kernel.
id<MTLComputePipelineState> make_pipeline(id<MTLFunction> function, NSUInteger threads, NSString* label,
                                          NSError** error) NS_RETURNS_RETAINED;

}  // namespace emulator
