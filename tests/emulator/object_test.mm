// Reference counts, injected errors and what they leave behind, exceptions through Objective-C frames.

#include <stdexcept>

#include "support.h"

namespace emulator_test {
namespace {

using Object = EmulatorTest;

TEST_F(Object, LiveObjectsFollowOwnership) {
  EXPECT_EQ(emulator::live_objects("MTLCommandQueue"), 1);
  id<MTLBuffer> kept = [device newBufferWithLength:64 options:MTLResourceStorageModeShared];
  EXPECT_EQ(emulator::live_objects("MTLBuffer"), 1);
  [kept retain];
  [kept release];
  EXPECT_EQ(emulator::live_objects("MTLBuffer"), 1);
  [kept release];
  EXPECT_EQ(emulator::live_objects("MTLBuffer"), 0);
  @autoreleasepool {
    [queue commandBuffer];
    EXPECT_EQ(emulator::live_objects("MTLCommandBuffer"), 1);
  }
  EXPECT_EQ(emulator::live_objects("MTLCommandBuffer"), 0);
}

TEST_F(Object, MissingReleaseShows) {
  id<MTLBuffer> leaked = [device newBufferWithLength:64 options:MTLResourceStorageModeShared];
  EXPECT_EQ(emulator::live_objects()["MTLBuffer"], 1);
  [leaked release];
  [device retain];
  EXPECT_EQ(emulator::live_objects("MTLDevice"), 2);
  [device release];
  EXPECT_EQ(emulator::live_objects("MTLDevice"), 1);
}

TEST_F(Object, ForgottenFoundationObjectsShow) {
  emulator::watch_foundation_objects();
  const auto strings = [] {
    std::int64_t count = 0;
    for (const auto& [name, live] : emulator::foundation_objects()) {
      if (name.find("String") != std::string::npos) count += live;
    }
    return count;
  };
  const auto text = [] {
    return [[NSString alloc] initWithBytes:"text" length:4 encoding:NSUTF8StringEncoding];
  };
  const std::int64_t before = strings();
  NSString* forgotten = text();
  @autoreleasepool {
    [text() autorelease];
    EXPECT_EQ(strings(), before + 2);
  }
  EXPECT_EQ(strings(), before + 1);
  [forgotten release];
  EXPECT_EQ(strings(), before);
  EXPECT_FALSE(emulator::foundation_objects().contains("EmulatorBuffer")) << "counted by live_objects";
}

TEST_F(Object, ExtraReleaseIsAFault) {
  id<MTLBuffer> gone = [device newBufferWithLength:64 options:MTLResourceStorageModeShared];
  [gone release];
  [gone release];
  [gone retain];
  @autoreleasepool {
    [gone autorelease];
  }
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 3U) << "release, retain and autorelease";
  for (const auto& fault : faults) {
    EXPECT_EQ(fault.kind, "over-release");
    EXPECT_NE(fault.text.find("MTLBuffer"), std::string::npos);
  }
}

TEST_F(Object, MessageToAFreedObjectIsRefused) {
  id<MTLBuffer> gone = [device newBufferWithLength:64 options:MTLResourceStorageModeShared];
  [gone release];
  expect_refusal("message sent to deallocated instance", [&] { [gone length]; });
  expect_refusal("message sent to deallocated instance", [&] { [gone setLabel:@"x"]; });
}

TEST_F(Object, ExtraReleaseOfTheDeviceIsAFault) {
  [device release];
  [device release];
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].kind, "over-release");
  device = MTLCreateSystemDefaultDevice();
}

TEST_F(Object, InjectedErrorsComeAsTheirCodes) {
  const int codes[] = {emulator::kInternalError, emulator::kTimeoutError, emulator::kPageFaultError,
                       emulator::kOutOfMemoryError, emulator::kInvalidResourceError};
  for (const int code : codes) {
    emulator::fail_command_buffers(code, 1);
    id<MTLBuffer> target = buffer_of({0});
    // After a time-out or a page fault another queue goes on, and only that.
    const bool ignores = code == emulator::kTimeoutError || code == emulator::kPageFaultError;
    id<MTLCommandQueue> failing = [[device newCommandQueue] autorelease];
    for (int i = 0; i < 3; ++i) {
      if (i == 2 && ignores) {
        id<MTLCommandBuffer> ignored = [failing commandBuffer];
        [ignored commit];
        [ignored waitUntilCompleted];
        EXPECT_EQ([[ignored error] code], emulator::kIgnoredError);
      }
      id<MTLCommandBuffer> work = i == 2 && ignores ? command_buffer() : [failing commandBuffer];
      id<MTLBlitCommandEncoder> blit = [work blitCommandEncoder];
      [blit fillBuffer:target range:NSMakeRange(0, 4) value:static_cast<uint8_t>(i + 1)];
      [blit endEncoding];
      [work commit];
      [work waitUntilCompleted];
      const auto first = *static_cast<uint8_t*>([target contents]);
      if (i == 1) {
        EXPECT_EQ([work status], MTLCommandBufferStatusError);
        EXPECT_EQ([[work error] code], code);
        EXPECT_STREQ([[[work error] domain] UTF8String], "MTLCommandBufferErrorDomain");
        EXPECT_GT([[[work error] localizedDescription] length], 10U);
        EXPECT_EQ(first, 1) << "nothing of a failed command buffer ran";
      } else {
        EXPECT_EQ([work status], MTLCommandBufferStatusCompleted);
        EXPECT_EQ([work error], nil);
        EXPECT_EQ(first, i + 1);
      }
    }
  }
  EXPECT_EQ(emulator::counters().errors, 7U) << "five, and two that were ignored";
}

TEST_F(Object, TheWatchdogsErrorIsAnInternalOne) {
  emulator::fail_command_buffers(emulator::kInteractivityError);
  id<MTLCommandBuffer> work = command_buffer();
  [work commit];
  [work waitUntilCompleted];
  EXPECT_EQ([[work error] code], emulator::kInternalError);
  EXPECT_TRUE([[[work error] localizedDescription] hasPrefix:@"Impacting Interactivity"]);
}

TEST_F(Object, ErrorNamesTheEncoders) {
  emulator::fail_command_buffers(emulator::kOutOfMemoryError);
  MTLCommandBufferDescriptor* descriptor = [[[MTLCommandBufferDescriptor alloc] init] autorelease];
  descriptor.errorOptions = MTLCommandBufferErrorOptionEncoderExecutionStatus;
  id<MTLCommandBuffer> work = [queue commandBufferWithDescriptor:descriptor];
  id<MTLComputeCommandEncoder> encoder = [work computeCommandEncoder];
  [encoder setLabel:@"rms_norm"];
  [encoder insertDebugSignpost:@"row block 3"];
  [encoder endEncoding];
  [work commit];
  [work waitUntilCompleted];
  NSArray* encoders = [[[work error] userInfo] objectForKey:MTLCommandBufferEncoderInfoErrorKey];
  ASSERT_EQ([encoders count], 1U);
  id<MTLCommandBufferEncoderInfo> info = [encoders objectAtIndex:0];
  EXPECT_STREQ([[info label] UTF8String], "rms_norm");
  EXPECT_EQ([info errorState], MTLCommandEncoderErrorStatePending);
  EXPECT_STREQ([[[info debugSignposts] objectAtIndex:0] UTF8String], "row block 3");
}

TEST_F(Object, LibraryRefusesForeignSource) {
  NSError* error = nil;
  EXPECT_EQ([device newLibraryWithSource:@"kernel void f() {}" options:nil error:&error], nil);
  ASSERT_NE(error, nil);
  EXPECT_STREQ([[error domain] UTF8String], "MTLLibraryErrorDomain");
  EXPECT_EQ([error code], MTLLibraryErrorCompileFailure);
  EXPECT_NE(std::string([[error localizedDescription] UTF8String]).find("no translation of this source"),
            std::string::npos);
  EXPECT_EQ([device newDefaultLibrary], nil);
  dispatch_data_t data = dispatch_data_create("MTLB", 4, nil, DISPATCH_DATA_DESTRUCTOR_DEFAULT);
  EXPECT_EQ([device newLibraryWithData:data error:&error], nil);
  EXPECT_EQ([error code], MTLLibraryErrorUnsupported);
  dispatch_release(data);
}

TEST_F(Object, CompileOptionsKeepWhatIsSet) {
  MTLCompileOptions* options = [[[MTLCompileOptions alloc] init] autorelease];
  EXPECT_TRUE(options.fastMathEnabled) << "Apple's default";
  options.mathMode = MTLMathModeSafe;
  EXPECT_FALSE(options.fastMathEnabled);
  options.fastMathEnabled = YES;
  EXPECT_EQ(options.mathMode, MTLMathModeFast);
  options.languageVersion = MTLLanguageVersion3_1;
  MTLCompileOptions* copy = [[options copy] autorelease];
  EXPECT_EQ(copy.languageVersion, MTLLanguageVersion3_1);
}

/// Two C++ handlers around an Objective-C call, one of another type.
std::string caught_through(id<MTLCommandBuffer> work) {
  try {
    try {
      [work waitUntilCompleted];
    } catch (const std::bad_alloc&) {
      return "wrong";
    }
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "nothing";
}

TEST_F(Object, CppExceptionsPassObjectiveCFrames) {
  EXPECT_NE(caught_through(command_buffer()).find("waitUntilCompleted"), std::string::npos);
}

TEST_F(Object, ObjectiveCExceptionsPassCppHandlers) {
  bool caught = false;
  @try {
    const auto raise = [] {
      try {
        [NSException raise:@"Test" format:@"from Foundation"];
      } catch (const std::exception&) {
        ADD_FAILURE() << "an NSException is no std::exception";
      }
    };
    raise();
  } @catch (NSException* exception) {
    caught = true;
  }
  EXPECT_TRUE(caught);
}

struct Flag {
  explicit Flag(bool* to_set) : set(to_set) {}
  ~Flag() { *set = true; }
  bool* set;
};

TEST_F(Object, DestructorsRunAsExceptionsPass) {
  bool cpp = false, objc = false;
  id<MTLCommandBuffer> work = command_buffer();
  expect_refusal("not committed", [&] {
    const Flag flag(&cpp);
    [work waitUntilCompleted];
  });
  const auto raise = [&objc] {
    const Flag flag(&objc);
    [NSException raise:@"Test" format:@"from Foundation"];
  };
  bool caught = false;
  try {
    raise();
  } catch (...) {
    caught = true;
  }
  EXPECT_TRUE(caught);
  EXPECT_TRUE(cpp);
  EXPECT_TRUE(objc);
}

TEST_F(Object, DispatchDataCallsItsDestructor) {
  __block int calls = 0;
  const char bytes[] = "MTLB";
  dispatch_data_t data = dispatch_data_create(bytes, 4, nil, ^{
    ++calls;
  });
  EXPECT_EQ(dispatch_data_get_size(data), 4U);
  EXPECT_EQ(calls, 0);
  dispatch_release(data);
  EXPECT_EQ(calls, 1);
}

TEST_F(Object, RefusalLeavesNothingBehind) {
  const auto before = emulator::live_objects();
  id<MTLDevice> nothing = nil;
  for (int i = 0; i < 100; ++i) {
    @autoreleasepool {
      id<MTLBuffer> small = buffer(16);
      expect_refusal("buffer is too small", [&] { matrix(small, 4, 4); });
      expect_refusal("device may not be nil", [&] { [[MPSMatrixSoftMax alloc] initWithDevice:nothing]; });
    }
  }
  EXPECT_EQ(emulator::live_objects(), before);
}

TEST_F(Object, StressReturnsToTheStart) {
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:4
                                                                       resultColumns:4
                                                                     interiorColumns:4] autorelease];
  const auto before = emulator::live_objects();
  const std::size_t bytes = emulator::allocated_bytes();
  for (int i = 0; i < 1000; ++i) {
    @autoreleasepool {
      MPSMatrix* a = matrix(buffer_of(random_floats(16, 1)), 4, 4);
      MPSMatrix* b = matrix(buffer_of(random_floats(16, 2)), 4, 4);
      MPSMatrix* c = matrix(buffer(64), 4, 4);
      id<MTLCommandBuffer> work = command_buffer();
      [kernel encodeToCommandBuffer:work leftMatrix:a rightMatrix:b resultMatrix:c];
      [work commit];
    }
  }
  EXPECT_EQ(emulator::live_objects(), before);
  EXPECT_EQ(emulator::allocated_bytes(), bytes);
  EXPECT_EQ(emulator::counters().completions, 1000U);
  EXPECT_EQ(emulator::counters().mps_kernels, 1U);
}

}  // namespace
}  // namespace emulator_test
