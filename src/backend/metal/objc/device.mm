#include "backend/metal/objc/device.h"

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <candela/core/error.h>

#include "backend/metal/objc/cast.h"
#include "backend/metal/objc/command.h"
#include "backend/metal/objc/library.h"

namespace candela::metal::objc {

void* Buffer::contents() const { return [native<id<MTLBuffer>>(*this) contents]; }
std::size_t Buffer::length() const { return [native<id<MTLBuffer>>(*this) length]; }
void Buffer::set_label(std::string_view label) {
  const AutoreleasePool pool;
  [native<id<MTLBuffer>>(*this) setLabel:to_ns(label)];
}

Buffer Heap::new_buffer(std::size_t bytes) {
  return Buffer::adopt([native<id<MTLHeap>>(*this) newBufferWithLength:bytes
                                                               options:MTLResourceStorageModeShared]);
}
std::size_t Heap::size() const { return [native<id<MTLHeap>>(*this) size]; }
std::size_t Heap::used() const { return [native<id<MTLHeap>>(*this) usedSize]; }

std::uint64_t Event::value() const { return [native<id<MTLSharedEvent>>(*this) signaledValue]; }
Device Device::system_default() {
  const AutoreleasePool pool;
  return Device(MTLCreateSystemDefaultDevice());
}

std::string Device::name() const {
  const AutoreleasePool pool;
  return from_ns([native<id<MTLDevice>>(*this) name]);
}
bool Device::unified_memory() const { return [native<id<MTLDevice>>(*this) hasUnifiedMemory]; }
bool Device::has_simdgroup_matrix() const {
  return [native<id<MTLDevice>>(*this) supportsFamily:MTLGPUFamilyApple7];
}
bool Device::supports_mps() const { return MPSSupportsMTLDevice(native<id<MTLDevice>>(*this)); }
std::size_t Device::recommended_working_set() const {
  return [native<id<MTLDevice>>(*this) recommendedMaxWorkingSetSize];
}
std::size_t Device::max_buffer_length() const { return [native<id<MTLDevice>>(*this) maxBufferLength]; }
std::size_t Device::allocated() const { return [native<id<MTLDevice>>(*this) currentAllocatedSize]; }

Buffer Device::new_buffer(std::size_t bytes) const {
  return Buffer::adopt([native<id<MTLDevice>>(*this) newBufferWithLength:bytes
                                                                 options:MTLResourceStorageModeShared]);
}

Buffer Device::new_buffer_over(void* data, std::size_t bytes, std::function<void()> released) const {
  // Apple documents that the deallocator runs when the buffer is deallocated, and that a command buffer keeps
  // what it uses; from both follows that the GPU is done with the memory then. That a refused buffer (nil)
  // drops the block without running it is not documented: it is assumed, and nothing but the owner's release
  // depends on it.
  return Buffer::adopt([native<id<MTLDevice>>(*this) newBufferWithBytesNoCopy:data
                                                                       length:bytes
                                                                      options:MTLResourceStorageModeShared
                                                                  deallocator:^(void*, NSUInteger) {
                                                                    released();
                                                                  }]);
}

Heap Device::new_heap(std::size_t bytes) const {
  const AutoreleasePool pool;
  MTLHeapDescriptor* descriptor = [[[MTLHeapDescriptor alloc] init] autorelease];
  [descriptor setSize:bytes];
  [descriptor setStorageMode:MTLStorageModeShared];
  [descriptor setHazardTrackingMode:MTLHazardTrackingModeTracked];
  return Heap::adopt([native<id<MTLDevice>>(*this) newHeapWithDescriptor:descriptor]);
}

Event Device::new_event() const { return Event::adopt([native<id<MTLDevice>>(*this) newSharedEvent]); }

CommandQueue Device::new_queue(std::size_t max_command_buffers) const {
  CommandQueue queue = CommandQueue::adopt(
      [native<id<MTLDevice>>(*this) newCommandQueueWithMaxCommandBufferCount:max_command_buffers]);
  require<DeviceError>(static_cast<bool>(queue),
                       "metal: the device gave no command queue; another process may hold too many");
  return queue;
}

Library Device::new_library_from_source(std::string_view source) const {
  const AutoreleasePool pool;
  MTLCompileOptions* options = [[[MTLCompileOptions alloc] init] autorelease];
  // The language of the shaders that the build compiles (-std=metal3.0), whatever the system's newest is.
  [options setLanguageVersion:MTLLanguageVersion3_0];
  // Newer SDKs prefer mathMode; fastMathEnabled works on every system that Candela supports.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
  [options setFastMathEnabled:NO];
#pragma clang diagnostic pop
  NSError* error = nil;
  Library library = Library::adopt([native<id<MTLDevice>>(*this) newLibraryWithSource:to_ns(source)
                                                                              options:options
                                                                                error:&error]);
  require<DeviceError>(static_cast<bool>(library), "metal: a shader does not compile: {}", describe(error));
  return library;
}

Library Device::new_library_from_data(const void* data, std::size_t bytes) const {
  const AutoreleasePool pool;
  dispatch_data_t content = dispatch_data_create(data, bytes, nullptr, DISPATCH_DATA_DESTRUCTOR_DEFAULT);
  NSError* error = nil;
  Library library = Library::adopt([native<id<MTLDevice>>(*this) newLibraryWithData:content error:&error]);
  dispatch_release(content);
  require<DeviceError>(static_cast<bool>(library), "metal: the compiled shaders do not load: {}",
                       describe(error));
  return library;
}

Pipeline Device::new_pipeline(const Library& library, const std::string& function,
                              const FunctionConstants& constants) const {
  const AutoreleasePool pool;
  NSError* error = nil;
  id<MTLFunction> entry =
      [native<id<MTLLibrary>>(library) newFunctionWithName:to_ns(function)
                                            constantValues:native<MTLFunctionConstantValues*>(constants)
                                                     error:&error];
  require<DeviceError>(entry != nil, "metal: no shader named {}: {}", function, describe(error));
  Pipeline pipeline =
      Pipeline::adopt([native<id<MTLDevice>>(*this) newComputePipelineStateWithFunction:entry error:&error]);
  [entry release];
  require<DeviceError>(static_cast<bool>(pipeline), "metal: shader {} gives no pipeline: {}", function,
                       describe(error));
  return pipeline;
}

}  // namespace candela::metal::objc
