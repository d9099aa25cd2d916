// The life of a command buffer, and what the stand-in refuses in it.

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "support.h"

namespace emulator_test {
namespace {

using CommandBuffer = EmulatorTest;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Encodes a fill of the whole buffer.
void fill(id<MTLCommandBuffer> command_buffer, id<MTLBuffer> target, std::uint8_t value) {
  id<MTLBlitCommandEncoder> encoder = [command_buffer blitCommandEncoder];
  [encoder fillBuffer:target range:NSMakeRange(0, [target length]) value:value];
  [encoder endEncoding];
}

std::uint8_t first_byte(id<MTLBuffer> buffer) { return *static_cast<const std::uint8_t*>([buffer contents]); }

TEST_F(CommandBuffer, PassesThroughItsStates) {
  id<MTLCommandBuffer> work = command_buffer();
  EXPECT_EQ([work status], MTLCommandBufferStatusNotEnqueued);
  [work enqueue];
  EXPECT_EQ([work status], MTLCommandBufferStatusEnqueued);
  emulator::set_completion_delay(20);
  id<MTLBuffer> target = buffer(64);
  fill(work, target, 7);
  __block NSUInteger scheduled = 99, completed = 99;
  [work addScheduledHandler:^(id<MTLCommandBuffer> it) {
    scheduled = [it status];
  }];
  [work addCompletedHandler:^(id<MTLCommandBuffer> it) {
    completed = [it status];
  }];
  [work commit];
  EXPECT_GE([work status], MTLCommandBufferStatusCommitted);
  [work waitUntilScheduled];
  EXPECT_GE([work status], MTLCommandBufferStatusScheduled);
  [work waitUntilCompleted];
  EXPECT_EQ([work status], MTLCommandBufferStatusCompleted);
  EXPECT_EQ([work error], nil);
  EXPECT_EQ(scheduled, NSUInteger{MTLCommandBufferStatusScheduled});
  EXPECT_EQ(completed, NSUInteger{MTLCommandBufferStatusCompleted});
  EXPECT_EQ(first_byte(target), 7);
  EXPECT_GT([work GPUEndTime], 0);
  EXPECT_GE([work GPUEndTime], [work GPUStartTime]);
}

TEST_F(CommandBuffer, RunsBehindTheHost) {
  emulator::set_completion_delay(60);
  id<MTLBuffer> target = buffer(64);
  std::memset([target contents], 1, 64);
  id<MTLCommandBuffer> work = command_buffer();
  fill(work, target, 2);
  const auto start = std::chrono::steady_clock::now();
  [work commit];
  EXPECT_LT(seconds_since(start), 0.05);
  EXPECT_EQ(first_byte(target), 1) << "a missing wait must show";
  [work waitUntilCompleted];
  EXPECT_EQ(first_byte(target), 2);
  EXPECT_EQ(emulator::counters().blocking_waits, 1U);
}

TEST_F(CommandBuffer, RunInTheOrderOfTheirCommits) {
  id<MTLBuffer> target = buffer(64);
  id<MTLCommandBuffer> last = nil;
  for (int i = 0; i < 200; ++i) {
    @autoreleasepool {
      id<MTLCommandBuffer> work = command_buffer();
      fill(work, target, static_cast<std::uint8_t>(i));
      [work commit];
      if (i == 199) last = [work retain];
    }
  }
  [last waitUntilCompleted];
  [last release];
  EXPECT_EQ(first_byte(target), 199);
  EXPECT_EQ(emulator::counters().commits, 200U);
  EXPECT_EQ(emulator::counters().command_buffers, 200U);
}

TEST_F(CommandBuffer, EnqueueReservesThePlace) {
  id<MTLBuffer> target = buffer(64);
  id<MTLCommandBuffer> first = command_buffer();
  id<MTLCommandBuffer> second = command_buffer();
  [first enqueue];
  fill(second, target, 2);
  [second commit];
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_LT([second status], MTLCommandBufferStatusScheduled) << "it waits for the one enqueued before it";
  fill(first, target, 1);
  [first commit];
  [second waitUntilCompleted];
  EXPECT_EQ(first_byte(target), 2);
}

TEST_F(CommandBuffer, QueuesRunSideBySideAndMeetAtEvents) {
  id<MTLCommandQueue> other = [[device newCommandQueue] autorelease];
  id<MTLSharedEvent> event = [[device newSharedEvent] autorelease];
  id<MTLBuffer> target = buffer(64);
  id<MTLCommandBuffer> late = [other commandBuffer];
  [late encodeWaitForEvent:event value:3];
  fill(late, target, 2);
  [late commit];
  id<MTLCommandBuffer> early = command_buffer();
  fill(early, target, 1);
  [early encodeSignalEvent:event value:3];
  [early commit];
  [late waitUntilCompleted];
  EXPECT_EQ(first_byte(target), 2);
  EXPECT_EQ([event signaledValue], 3U);
  EXPECT_TRUE([event waitUntilSignaledValue:3 timeoutMS:0]);
  EXPECT_FALSE([event waitUntilSignaledValue:4 timeoutMS:1]);
}

TEST_F(CommandBuffer, HostSignalsASharedEvent) {
  id<MTLSharedEvent> event = [[device newSharedEvent] autorelease];
  id<MTLBuffer> target = buffer(64);
  std::memset([target contents], 0, 64);
  id<MTLCommandBuffer> work = command_buffer();
  [work encodeWaitForEvent:event value:1];
  fill(work, target, 5);
  [work commit];
  EXPECT_EQ(first_byte(target), 0);
  [event setSignaledValue:1];
  [work waitUntilCompleted];
  EXPECT_EQ(first_byte(target), 5);
}

TEST_F(CommandBuffer, EventThatNeverComesIsATimeout) {
  id<MTLEvent> event = [[device newEvent] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  [work encodeWaitForEvent:event value:1];
  [work commit];
  [work waitUntilCompleted];
  EXPECT_EQ([work status], MTLCommandBufferStatusError);
  EXPECT_EQ([[work error] code], MTLCommandBufferErrorTimeout);
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].kind, "event");
}

TEST_F(CommandBuffer, WaitReturnsAfterTheHandlers) {
  __block int calls = 0;
  id<MTLCommandBuffer> work = command_buffer();
  [work addCompletedHandler:^(id<MTLCommandBuffer>) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++calls;
  }];
  [work addCompletedHandler:^(id<MTLCommandBuffer> it) {
    [it waitUntilCompleted];  // already so: returns at once
    ++calls;
  }];
  finish(work);
  EXPECT_EQ(calls, 2);
}

TEST_F(CommandBuffer, ExceptionOutOfAHandlerIsAFault) {
  id<MTLCommandBuffer> work = command_buffer();
  [work addCompletedHandler:^(id<MTLCommandBuffer>) {
    throw std::runtime_error("from the handler");
  }];
  finish(work);
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].kind, "handler");
  EXPECT_NE(faults[0].text.find("from the handler"), std::string::npos);
}

TEST_F(CommandBuffer, HandlerThatWaitsForItsOwnQueueIsRefused) {
  id<MTLCommandQueue> own = queue;
  id<MTLCommandBuffer> work = command_buffer();
  [work addCompletedHandler:^(id<MTLCommandBuffer>) {
    id<MTLCommandBuffer> later = [own commandBuffer];
    [later commit];
    [later waitUntilCompleted];
  }];
  finish(work);
  EXPECT_TRUE(emulator::settle());
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_NE(faults[0].text.find("waits for a later command buffer of its own queue"), std::string::npos);
}

TEST_F(CommandBuffer, FencesAndQueuesCheckTheirArguments) {
  expect_refusal("maxCommandBufferCount must be > 0",
                 [&] { [device newCommandQueueWithMaxCommandBufferCount:0]; });
  id<MTLFence> fence = [[device newFence] autorelease], nothing = nil;
  id<MTLCommandBuffer> work = command_buffer();
  id<MTLComputeCommandEncoder> first = [work computeCommandEncoder];
  [first updateFence:fence];
  expect_refusal("fence must not be nil", [&] { [first updateFence:nothing]; });
  [first endEncoding];
  id<MTLBlitCommandEncoder> second = [work blitCommandEncoder];
  [second waitForFence:fence];
  expect_refusal("fence must not be nil", [&] { [second waitForFence:nothing]; });
  [second endEncoding];
  finish(work);
  id<MTLEvent> event = [[device newEvent] autorelease];
  expect_refusal("only a shared event has a value",
                 [&] { [static_cast<id<MTLSharedEvent>>(event) signaledValue]; });
}

TEST_F(CommandBuffer, RefusesEncodingAfterCommit) {
  id<MTLCommandBuffer> work = command_buffer();
  emulator::set_completion_delay(20);
  [work commit];
  for (int i = 0; i < 2; ++i) {  // while it runs, and once more when it has completed
    expect_refusal("_status < MTLCommandBufferStatusCommitted", [&] { [work computeCommandEncoder]; });
    expect_refusal("_status < MTLCommandBufferStatusCommitted", [&] { [work blitCommandEncoder]; });
    expect_refusal("Completed handler provided after commit call", [&] {
      [work addCompletedHandler:^(id<MTLCommandBuffer>){
      }];
    });
    expect_refusal("Scheduled handler provided after commit call", [&] {
      [work addScheduledHandler:^(id<MTLCommandBuffer>){
      }];
    });
    expect_refusal("enqueue a command buffer that was already committed", [&] { [work enqueue]; });
    expect_refusal("commit an already committed command buffer", [&] { [work commit]; });
    [work waitUntilCompleted];
  }
  EXPECT_EQ(emulator::counters().commits, 1U);
}

TEST_F(CommandBuffer, RefusesMpsAfterCommit) {
  MPSMatrix* values = matrix(buffer(64), 4, 4);
  MPSMatrixSoftMax* kernel = [[[MPSMatrixSoftMax alloc] initWithDevice:device] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  finish(work);
  expect_refusal("_status < MTLCommandBufferStatusCommitted",
                 [&] { [kernel encodeToCommandBuffer:work inputMatrix:values resultMatrix:values]; });
}

TEST_F(CommandBuffer, RefusesASecondEncoder) {
  MPSMatrix* values = matrix(buffer(64), 4, 4);
  MPSMatrixSoftMax* kernel = [[[MPSMatrixSoftMax alloc] initWithDevice:device] autorelease];
  id<MTLEvent> event = [[device newEvent] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  id<MTLComputeCommandEncoder> encoder = [work computeCommandEncoder];
  const std::string already = "A command encoder is already encoding to this command buffer";
  expect_refusal(already, [&] { [work computeCommandEncoder]; });
  expect_refusal(already, [&] { [work blitCommandEncoder]; });
  expect_refusal(already,
                 [&] { [kernel encodeToCommandBuffer:work inputMatrix:values resultMatrix:values]; });
  expect_refusal("encodeSignalEvent:value: with uncommitted encoder",
                 [&] { [work encodeSignalEvent:event value:1]; });
  expect_refusal("encodeWaitForEvent:value: with uncommitted encoder",
                 [&] { [work encodeWaitForEvent:event value:1]; });
  expect_refusal("commit command buffer with uncommitted encoder", [&] { [work commit]; });
  [encoder endEncoding];
  finish(work);
}

TEST_F(CommandBuffer, RefusesWaitBeforeCommit) {
  id<MTLCommandBuffer> work = command_buffer();
  expect_refusal("not committed", [&] { [work waitUntilCompleted]; });
  expect_refusal("not committed", [&] { [work waitUntilScheduled]; });
  [work enqueue];
  expect_refusal("not committed", [&] { [work waitUntilCompleted]; });
  expect_refusal("already enqueued", [&] { [work enqueue]; });
  finish(work);
}

TEST_F(CommandBuffer, RefusesAnEndedEncoder) {
  id<MTLCommandBuffer> work = command_buffer();
  id<MTLComputeCommandEncoder> compute = [work computeCommandEncoder];
  [compute endEncoding];
  expect_refusal("already ended", [&] { [compute endEncoding]; });
  expect_refusal("already ended", [&] { [compute setBuffer:nil offset:0 atIndex:0]; });
  expect_refusal("already ended", [&] { [compute pushDebugGroup:@"late"]; });
  id<MTLBlitCommandEncoder> blit = [work blitCommandEncoder];
  [blit endEncoding];
  id<MTLBuffer> target = buffer(64);
  expect_refusal("already ended", [&] { [blit fillBuffer:target range:NSMakeRange(0, 4) value:1]; });
  finish(work);
}

TEST_F(CommandBuffer, EncoderFreedWithoutEndEncodingIsAFault) {
  id<MTLCommandBuffer> work = command_buffer();
  @autoreleasepool {
    [work computeCommandEncoder];
  }
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].kind, "encoder-not-ended");
  EXPECT_NE(faults[0].text.find("Command encoder released without endEncoding"), std::string::npos);
  expect_refusal("uncommitted encoder", [&] { [work commit]; });
}

TEST_F(CommandBuffer, SixtyFourthIsTheLastInFlight) {
  @autoreleasepool {
    for (int i = 0; i < 64; ++i) [queue commandBuffer];
    expect_refusal("64 command buffers are uncompleted", [&] { [queue commandBuffer]; });
  }
  // Dropping them gives their places back.
  @autoreleasepool {
    finish([queue commandBuffer]);
  }
  EXPECT_EQ(emulator::counters().max_in_flight, 64U);
}

TEST_F(CommandBuffer, FullQueueBlocksUntilOneCompletes) {
  id<MTLCommandQueue> narrow = [[device newCommandQueueWithMaxCommandBufferCount:2] autorelease];
  emulator::set_completion_delay(40);
  id<MTLCommandBuffer> first = [narrow commandBuffer];
  [first commit];
  [narrow commandBuffer];
  const auto start = std::chrono::steady_clock::now();
  [narrow commandBuffer];
  EXPECT_GT(seconds_since(start), 0.02);
  EXPECT_EQ([first status], MTLCommandBufferStatusCompleted);
  EXPECT_EQ(emulator::counters().blocked_on_full_queue, 1U);
  EXPECT_EQ(emulator::counters().max_in_flight, 2U);
}

TEST_F(CommandBuffer, KeepsWhatItUses) {
  id<MTLBuffer> target = [device newBufferWithLength:64 options:MTLResourceStorageModeShared];
  id<MTLCommandBuffer> work = command_buffer();
  emulator::set_completion_delay(20);
  @autoreleasepool {
    fill(work, target, 9);
  }
  [work commit];
  [target release];
  EXPECT_EQ(emulator::live_objects("MTLBuffer"), 0);  // waits for completion
  EXPECT_EQ([work status], MTLCommandBufferStatusCompleted);
}

TEST_F(CommandBuffer, UnretainedReferencesMustOutliveIt) {
  id<MTLCommandBuffer> work = [queue commandBufferWithUnretainedReferences];
  EXPECT_FALSE([work retainedReferences]);
  id<MTLBuffer> target = [device newBufferWithLength:64 options:MTLResourceStorageModeShared];
  @autoreleasepool {
    fill(work, target, 9);
  }
  [target release];
  [work commit];
  [work waitUntilCompleted];
  EXPECT_EQ([work status], MTLCommandBufferStatusError);
  EXPECT_EQ([[work error] code], MTLCommandBufferErrorInvalidResource);
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].kind, "unretained");
}

TEST_F(CommandBuffer, OutlivesItsQueue) {
  id<MTLCommandQueue> brief = [device newCommandQueue];
  id<MTLBuffer> target = buffer(64);
  id<MTLCommandBuffer> work = [[brief commandBuffer] retain];
  emulator::set_completion_delay(20);
  fill(work, target, 4);
  [work commit];
  [brief release];
  [work waitUntilCompleted];
  [work release];
  EXPECT_EQ(first_byte(target), 4);
}

TEST_F(CommandBuffer, DebugGroupsMustPair) {
  id<MTLCommandBuffer> work = command_buffer();
  [work pushDebugGroup:@"step"];
  [work popDebugGroup];
  expect_refusal("popDebugGroup without", [&] { [work popDebugGroup]; });
  id<MTLComputeCommandEncoder> encoder = [work computeCommandEncoder];
  [encoder pushDebugGroup:@"op"];
  [encoder popDebugGroup];
  expect_refusal("popDebugGroup without", [&] { [encoder popDebugGroup]; });
  [encoder endEncoding];
}

TEST_F(CommandBuffer, FourThreadsEncodeIntoTheirOwn) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  id<MTLCommandQueue> shared_queue = queue;
  id<MTLDevice> shared_device = device;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&wrong, shared_queue, shared_device, t] {
      for (int i = 0; i < 50; ++i) {
        @autoreleasepool {
          id<MTLBuffer> target =
              [[shared_device newBufferWithLength:256 options:MTLResourceStorageModeShared] autorelease];
          id<MTLCommandBuffer> work = [shared_queue commandBuffer];
          fill(work, target, static_cast<std::uint8_t>(t * 50 + i));
          [work commit];
          [work waitUntilCompleted];
          if (first_byte(target) != static_cast<std::uint8_t>(t * 50 + i)) ++wrong;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(emulator::counters().completions, 200U);
}

}  // namespace
}  // namespace emulator_test
