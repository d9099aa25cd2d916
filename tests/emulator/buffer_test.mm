// Buffers, heaps and memory limits.

#include <cstdlib>
#include <cstring>
#include <memory>

#include "support.h"

namespace emulator_test {
namespace {

using Buffer = EmulatorTest;

constexpr std::size_t kPage = 16384;

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

std::unique_ptr<void, FreeMemory> pages(std::size_t bytes) {
  return std::unique_ptr<void, FreeMemory>(std::aligned_alloc(kPage, bytes));
}

TEST_F(Buffer, DeviceTellsItsLimits) {
  EXPECT_TRUE([device hasUnifiedMemory]);
  EXPECT_EQ([device maxThreadgroupMemoryLength], 32768U);
  EXPECT_EQ([device maxThreadsPerThreadgroup].width, 1024U);
  EXPECT_EQ([device maxBufferLength], NSUInteger { 8 } << 30);
  EXPECT_EQ([device recommendedMaxWorkingSetSize], uint64_t { 12 } << 30);
  EXPECT_TRUE([device supportsFamily:MTLGPUFamilyApple7]);
  EXPECT_TRUE([device supportsFamily:MTLGPUFamilyMetal3]);
  EXPECT_FALSE([device supportsFamily:MTLGPUFamilyApple9]);
  EXPECT_GT([[device name] length], 0U);
  EXPECT_NE([device registryID], 0U);
  NSArray* all = MTLCopyAllDevices();
  EXPECT_EQ([all count], 1U);
  EXPECT_EQ([all objectAtIndex:0], device);
  [all release];
}

TEST_F(Buffer, HoldsItsBytes) {
  const std::vector<float> values = random_floats(1000, 1);
  id<MTLBuffer> copied = buffer_of(values);
  EXPECT_EQ([copied length], 4000U);
  EXPECT_EQ(to_vector(copied, 1000), values);
  EXPECT_EQ(reinterpret_cast<uintptr_t>([copied contents]) % kPage, 0U);
  [copied setLabel:@"weights"];
  EXPECT_STREQ([[copied label] UTF8String], "weights");
  EXPECT_EQ([copied storageMode], MTLStorageModeShared);
  EXPECT_EQ([copied hazardTrackingMode], MTLHazardTrackingModeTracked);
  EXPECT_EQ([device currentAllocatedSize], 4000U);
}

TEST_F(Buffer, StartsWithNotANumber) {
  id<MTLBuffer> fresh = buffer(64);
  EXPECT_NE(floats(fresh)[3], floats(fresh)[3]);
  emulator::set_fill_byte(0);
  EXPECT_EQ(floats(buffer(64))[3], 0.0F);
}

TEST_F(Buffer, PrivateOnesHaveNoContents) {
  EXPECT_EQ([buffer(64, MTLResourceStorageModePrivate) contents], nullptr);
}

TEST_F(Buffer, RefusesWrongRequests) {
  expect_refusal("Cannot create buffer of zero length", [&] { buffer(0); });
  expect_refusal("maxBufferLength", [&] { buffer((NSUInteger{8} << 30) + 1); });
  expect_refusal("storage mode", [&] { buffer(64, MTLResourceStorageModeMemoryless); });
  const void* nothing = nullptr;
  expect_refusal("pointer must not be NULL",
                 [&] { [device newBufferWithBytes:nothing length:64 options:MTLResourceStorageModeShared]; });
  id<MTLBuffer> shared = buffer(64);
  expect_refusal("MTLStorageModeManaged", [&] { [shared didModifyRange:NSMakeRange(0, 4)]; });
  id<MTLBuffer> managed = buffer(64, MTLResourceStorageModeManaged);
  [managed didModifyRange:NSMakeRange(0, 64)];
  expect_refusal("within the buffer", [&] { [managed didModifyRange:NSMakeRange(60, 8)]; });
}

TEST_F(Buffer, WrapsPagesWithoutACopy) {
  auto memory = pages(2 * kPage);
  std::memset(memory.get(), 3, 2 * kPage);
  __block int calls = 0;
  void* expected = memory.get();
  @autoreleasepool {
    id<MTLBuffer> wrapped = [[device newBufferWithBytesNoCopy:memory.get()
                                                       length:2 * kPage
                                                      options:MTLResourceStorageModeShared
                                                  deallocator:^(void* pointer, NSUInteger length) {
                                                    if (pointer == expected && length == 2 * kPage) ++calls;
                                                  }] autorelease];
    EXPECT_EQ([wrapped contents], memory.get());
    id<MTLCommandBuffer> work = command_buffer();
    id<MTLBlitCommandEncoder> blit = [work blitCommandEncoder];
    [blit fillBuffer:wrapped range:NSMakeRange(kPage, 4) value:8];
    [blit endEncoding];
    finish(work);
    EXPECT_EQ(static_cast<char*>(memory.get())[kPage], 8);
    EXPECT_EQ(calls, 0);
  }
  EXPECT_EQ(emulator::live_objects("MTLBuffer"), 0);
  EXPECT_EQ(calls, 1);
}

TEST_F(Buffer, RefusesUnalignedPages) {
  auto memory = pages(2 * kPage);
  auto* bytes = static_cast<char*>(memory.get());
  const auto wrap = [&](void* pointer, NSUInteger length) {
    [device newBufferWithBytesNoCopy:pointer
                              length:length
                             options:MTLResourceStorageModeShared
                         deallocator:nil];
  };
  expect_refusal("is not 16384 byte aligned", [&] { wrap(bytes + 4096, kPage); });
  expect_refusal("length 0x1000 is not 16384 byte aligned", [&] { wrap(bytes, 4096); });
  expect_refusal("pointer must not be NULL", [&] { wrap(nullptr, kPage); });
  expect_refusal("shared or managed", [&] {
    [device newBufferWithBytesNoCopy:bytes
                              length:kPage
                             options:MTLResourceStorageModePrivate
                         deallocator:nil];
  });
}

TEST_F(Buffer, WorkingSetLimitGivesNil) {
  emulator::set_working_set_limit(1 << 20);
  EXPECT_EQ([device recommendedMaxWorkingSetSize], uint64_t { 1 } << 20);
  id<MTLBuffer> large = [device newBufferWithLength:1000000 options:MTLResourceStorageModeShared];
  ASSERT_NE(large, nil);
  EXPECT_EQ(buffer(100000), nil);
  auto memory = pages(8 * kPage);
  EXPECT_EQ([device newBufferWithBytesNoCopy:memory.get() length:8 * kPage options:0 deallocator:nil], nil);
  MTLHeapDescriptor* descriptor = [[[MTLHeapDescriptor alloc] init] autorelease];
  descriptor.size = 100000;
  EXPECT_EQ([device newHeapWithDescriptor:descriptor], nil);
  EXPECT_EQ(emulator::counters().failed_allocations, 3U);
  [large release];
  EXPECT_NE(buffer(100000), nil) << "freed memory can be had again";
}

TEST_F(Buffer, AllocationFailuresAreInjected) {
  emulator::fail_allocations(1, 2);
  EXPECT_NE(buffer(64), nil);
  EXPECT_EQ(buffer(64), nil);
  EXPECT_EQ(buffer(64), nil);
  EXPECT_NE(buffer(64), nil);
}

TEST_F(Buffer, BytesAreCounted) {
  const std::size_t before = emulator::allocated_bytes();
  for (int i = 0; i < 1000; ++i) {
    @autoreleasepool {
      buffer(1000);
    }
  }
  EXPECT_EQ(emulator::allocated_bytes(), before);
  EXPECT_EQ(emulator::counters().buffers, 1000U);
}

TEST_F(Buffer, BlitCopiesAndRefuses) {
  id<MTLBuffer> from = buffer_of({1, 2, 3, 4});
  id<MTLBuffer> to = buffer_of({0, 0, 0, 0});
  id<MTLCommandBuffer> work = command_buffer();
  id<MTLBlitCommandEncoder> blit = [work blitCommandEncoder];
  const auto copy = [&](NSUInteger source, NSUInteger target, NSUInteger size) {
    [blit copyFromBuffer:from sourceOffset:source toBuffer:to destinationOffset:target size:size];
  };
  copy(4, 8, 8);
  expect_refusal("(sourceOffset(12) + size(8)) must be <=", [&] { copy(12, 0, 8); });
  expect_refusal("(destinationOffset(12) + size(8)) must be <=", [&] { copy(0, 12, 8); });
  expect_refusal("multiples of 4", [&] { copy(2, 0, 4); });
  expect_refusal("size must be > 0", [&] { copy(0, 0, 0); });
  expect_refusal("overlap",
                 [&] { [blit copyFromBuffer:from sourceOffset:0 toBuffer:from destinationOffset:4 size:8]; });
  expect_refusal("must be <= [buffer length](16)",
                 [&] { [blit fillBuffer:to range:NSMakeRange(12, 8) value:0]; });
  expect_refusal("multiples of 4", [&] { [blit fillBuffer:to range:NSMakeRange(1, 4) value:0]; });
  expect_refusal("MTLStorageModeManaged", [&] { [blit synchronizeResource:to]; });
  [blit endEncoding];
  finish(work);
  EXPECT_EQ(to_vector(to, 4), (std::vector<float>{0, 0, 2, 3}));
}

TEST_F(Buffer, HeapGivesAndTakesBack) {
  MTLHeapDescriptor* descriptor = [[[MTLHeapDescriptor alloc] init] autorelease];
  EXPECT_EQ(descriptor.storageMode, MTLStorageModePrivate);
  descriptor.size = 4096;
  descriptor.storageMode = MTLStorageModeShared;
  id<MTLHeap> heap = [[device newHeapWithDescriptor:descriptor] autorelease];
  EXPECT_EQ([heap hazardTrackingMode], MTLHazardTrackingModeUntracked);
  EXPECT_EQ(emulator::counters().heaps, 1U);
  EXPECT_EQ(emulator::counters().untracked_heaps, 1U);
  id<MTLBuffer> first = [heap newBufferWithLength:1000 options:MTLResourceStorageModeShared];
  id<MTLBuffer> second = [heap newBufferWithLength:2000 options:MTLResourceStorageModeShared];
  ASSERT_NE(first, nil);
  ASSERT_NE(second, nil);
  EXPECT_EQ([second heapOffset], 1024U);
  EXPECT_EQ([heap usedSize], 3000U);
  EXPECT_EQ([heap newBufferWithLength:2000 options:MTLResourceStorageModeShared], nil) << "the heap is full";
  [first release];
  id<MTLBuffer> third = [heap newBufferWithLength:1000 options:MTLResourceStorageModeShared];
  EXPECT_EQ([third heapOffset], 0U);
  expect_refusal("storage mode of the options",
                 [&] { [heap newBufferWithLength:16 options:MTLResourceStorageModePrivate]; });
  expect_refusal("zero length", [&] { [heap newBufferWithLength:0 options:MTLResourceStorageModeShared]; });
  expect_refusal("MTLHeapTypePlacement",
                 [&] { [heap newBufferWithLength:16 options:MTLResourceStorageModeShared offset:0]; });
  [third makeAliasable];
  EXPECT_EQ([heap usedSize], 2000U);
  [second release];
  [third release];
  EXPECT_EQ([heap usedSize], 0U);
}

TEST_F(Buffer, RefusesWrongHeaps) {
  MTLHeapDescriptor* descriptor = [[[MTLHeapDescriptor alloc] init] autorelease];
  expect_refusal("size must be > 0", [&] { [device newHeapWithDescriptor:descriptor]; });
  descriptor.size = 4096;
  descriptor.storageMode = MTLStorageModeManaged;
  expect_refusal("storageMode must be shared or private", [&] { [device newHeapWithDescriptor:descriptor]; });
  descriptor.resourceOptions = MTLResourceStorageModePrivate | MTLResourceHazardTrackingModeTracked;
  EXPECT_EQ(descriptor.hazardTrackingMode, MTLHazardTrackingModeTracked);
  descriptor.type = MTLHeapTypeSparse;
  expect_refusal("sparse", [&] { [device newHeapWithDescriptor:descriptor]; });
  descriptor.type = MTLHeapTypeAutomatic;
  id<MTLHeap> heap = [[device newHeapWithDescriptor:descriptor] autorelease];
  EXPECT_EQ([heap maxAvailableSizeWithAlignment:256], 4096U);
  expect_refusal("power of two", [&] { [heap maxAvailableSizeWithAlignment:100]; });
  expect_refusal("only KeepCurrent and NonVolatile",
                 [&] { [heap setPurgeableState:MTLPurgeableStateEmpty]; });
  const MTLSizeAndAlign needed = [device heapBufferSizeAndAlignWithLength:1000
                                                                  options:MTLResourceStorageModePrivate];
  EXPECT_EQ(needed.size, 1024U);
  EXPECT_EQ(needed.align, 256U);
}

TEST_F(Buffer, PlacementHeapPutsBuffersWhereAsked) {
  MTLHeapDescriptor* descriptor = [[[MTLHeapDescriptor alloc] init] autorelease];
  descriptor.size = 4096;
  descriptor.type = MTLHeapTypePlacement;
  descriptor.storageMode = MTLStorageModeShared;
  id<MTLHeap> heap = [[device newHeapWithDescriptor:descriptor] autorelease];
  id<MTLBuffer> at = [[heap newBufferWithLength:512 options:MTLResourceStorageModeShared
                                         offset:512] autorelease];
  EXPECT_EQ([at heapOffset], 512U);
  expect_refusal("within the heap",
                 [&] { [heap newBufferWithLength:512 options:MTLResourceStorageModeShared offset:4096]; });
  expect_refusal("multiple of the alignment",
                 [&] { [heap newBufferWithLength:512 options:MTLResourceStorageModeShared offset:100]; });
}

}  // namespace
}  // namespace emulator_test
