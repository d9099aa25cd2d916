// Compute encoders: dispatches of translated shaders, and what the stand-in refuses before and while they
// run.

#include <cstring>
#include <fstream>
#include <sstream>

#include "support.h"

namespace emulator_test {
namespace {

struct Probe {
  std::uint32_t count;
  float factor;
};

std::string probe_source() {
  std::ifstream file(PROBE_SHADER);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class Compute : public EmulatorTest {
 protected:
  void SetUp() override {
    EmulatorTest::SetUp();
    NSError* error = nil;
    NSString* source = [NSString stringWithUTF8String:probe_source().c_str()];
    library = [[device newLibraryWithSource:source options:nil error:&error] autorelease];
    ASSERT_NE(library, nil) << [[error localizedDescription] UTF8String];
  }

  id<MTLComputePipelineState> pipeline(NSString* name, MTLFunctionConstantValues* constants = nil) {
    NSError* error = nil;
    id<MTLFunction> function = constants
                                   ? [library newFunctionWithName:name constantValues:constants error:&error]
                                   : [library newFunctionWithName:name];
    [function autorelease];
    if (function == nil) {
      ADD_FAILURE() << [name UTF8String] << ": " << [[error localizedDescription] UTF8String];
      return nil;
    }
    id<MTLComputePipelineState> state = [device newComputePipelineStateWithFunction:function error:&error];
    if (state == nil) ADD_FAILURE() << [[error localizedDescription] UTF8String];
    return [state autorelease];
  }

  /// An open encoder with the pipeline set, in a new command buffer.
  id<MTLComputeCommandEncoder> open(NSString* name) {
    work = command_buffer();
    id<MTLComputeCommandEncoder> encoder = [work computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(name)];
    return encoder;
  }

  id<MTLLibrary> library = nil;
  id<MTLCommandBuffer> work = nil;
};

const MTLSize kOne = MTLSizeMake(1, 1, 1);

TEST_F(Compute, RunsAShader) {
  const auto x = random_floats(100, 1);
  id<MTLBuffer> out = buffer_of(std::vector<float>(100, -1));
  id<MTLComputeCommandEncoder> encoder = open(@"probe_scale");
  const Probe probe{90, 3};
  [encoder setBuffer:buffer_of(x) offset:0 atIndex:0];
  [encoder setBuffer:out offset:0 atIndex:1];
  [encoder setBytes:&probe length:sizeof probe atIndex:2];
  [encoder dispatchThreads:MTLSizeMake(100, 1, 1) threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
  [encoder endEncoding];
  finish(work);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(floats(out)[i], i < 90 ? x[i] * 3 : -1);
  EXPECT_EQ(emulator::counters().dispatches, 1U);
}

TEST_F(Compute, BytesAreCopiedAndOffsetsMove) {
  id<MTLBuffer> in = buffer_of({1, 2, 3, 4}), out = buffer_of({0, 0, 0, 0});
  id<MTLComputeCommandEncoder> encoder = open(@"probe_scale");
  Probe probe{1, 10};
  [encoder setBuffer:in offset:4 atIndex:0];
  [encoder setBuffer:out offset:0 atIndex:1];
  [encoder setBytes:&probe length:sizeof probe atIndex:2];
  probe.factor = 0;  // too late to matter
  [encoder dispatchThreadgroups:kOne threadsPerThreadgroup:kOne];
  [encoder setBufferOffset:8 atIndex:0];
  [encoder setBufferOffset:12 atIndex:1];
  [encoder dispatchThreadgroups:kOne threadsPerThreadgroup:kOne];
  [encoder endEncoding];
  finish(work);
  EXPECT_EQ(to_vector(out, 4), (std::vector<float>{20, 0, 0, 30}));
}

TEST_F(Compute, FunctionConstantsSpecialise) {
  MTLFunctionConstantValues* constants = [[[MTLFunctionConstantValues alloc] init] autorelease];
  bool biased = false;
  float shift = 2;
  [constants setConstantValue:&biased type:MTLDataTypeBool atIndex:0];
  [constants setConstantValue:&shift type:MTLDataTypeFloat withName:@"kShift"];
  id<MTLComputePipelineState> plain = pipeline(@"probe_shift", constants);
  biased = true;
  [constants setConstantValue:&biased type:MTLDataTypeBool atIndex:0];
  id<MTLComputePipelineState> with_bias = pipeline(@"probe_shift", constants);
  id<MTLBuffer> out = buffer_of({1, 1});
  work = command_buffer();
  id<MTLComputeCommandEncoder> encoder = [work computeCommandEncoder];
  [encoder setBuffer:out offset:0 atIndex:0];
  [encoder setComputePipelineState:plain];  // needs no buffer at index 1
  [encoder dispatchThreads:MTLSizeMake(2, 1, 1) threadsPerThreadgroup:kOne];
  [encoder setComputePipelineState:with_bias];
  expect_refusal("missing buffer binding at index 1 for bias[0]",
                 [&] { [encoder dispatchThreads:MTLSizeMake(2, 1, 1) threadsPerThreadgroup:kOne]; });
  [encoder setBuffer:buffer_of({10, 20}) offset:0 atIndex:1];
  [encoder dispatchThreads:MTLSizeMake(2, 1, 1) threadsPerThreadgroup:kOne];
  [encoder endEncoding];
  finish(work);
  EXPECT_EQ(to_vector(out, 2), (std::vector<float>{15, 25}));
}

TEST_F(Compute, MissingFunctionConstantsAreErrors) {
  NSError* error = nil;
  MTLFunctionConstantValues* none = [[[MTLFunctionConstantValues alloc] init] autorelease];
  EXPECT_EQ([library newFunctionWithName:@"probe_shift" constantValues:none error:&error], nil);
  EXPECT_NE(error, nil);
  id<MTLFunction> unspecialised = [[library newFunctionWithName:@"probe_shift"] autorelease];
  ASSERT_NE(unspecialised, nil);
  EXPECT_EQ([[unspecialised functionConstantsDictionary] count], 2U);
  error = nil;
  EXPECT_EQ([device newComputePipelineStateWithFunction:unspecialised error:&error], nil);
  EXPECT_NE(error, nil);
  error = nil;
  EXPECT_EQ([library newFunctionWithName:@"no_such_kernel" constantValues:none error:&error], nil);
  EXPECT_EQ([error code], MTLLibraryErrorFunctionNotFound);
  EXPECT_EQ([library newFunctionWithName:@"no_such_kernel"], nil);
  EXPECT_TRUE([[library functionNames] containsObject:@"probe_scale"]);
}

TEST_F(Compute, PipelinesTellTheirLimits) {
  id<MTLComputePipelineState> plain = pipeline(@"probe_scale");
  EXPECT_EQ([plain threadExecutionWidth], 32U);
  EXPECT_EQ([plain maxTotalThreadsPerThreadgroup], 1024U);
  EXPECT_EQ([plain staticThreadgroupMemoryLength], 0U);
  EXPECT_EQ([pipeline(@"probe_small") maxTotalThreadsPerThreadgroup], 64U);
  EXPECT_GE([pipeline(@"probe_large") staticThreadgroupMemoryLength], 30000U);
  emulator::set_max_threads_per_pipeline(256);
  EXPECT_EQ([pipeline(@"probe_scale") maxTotalThreadsPerThreadgroup], 256U);
  emulator::fail_pipelines();
  NSError* error = nil;
  id<MTLFunction> function = [[library newFunctionWithName:@"probe_scale"] autorelease];
  EXPECT_EQ([device newComputePipelineStateWithFunction:function error:&error], nil);
  EXPECT_NE(error, nil);
  MTLComputePipelineDescriptor* descriptor = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
  descriptor.computeFunction = function;
  descriptor.maxTotalThreadsPerThreadgroup = 128;
  descriptor.label = @"scale";
  id<MTLComputePipelineState> limited = [[device newComputePipelineStateWithDescriptor:descriptor
                                                                               options:MTLPipelineOptionNone
                                                                            reflection:nullptr
                                                                                 error:&error] autorelease];
  EXPECT_EQ([limited maxTotalThreadsPerThreadgroup], 128U);
  EXPECT_STREQ([[limited label] UTF8String], "scale");
}

TEST_F(Compute, ThreadgroupMemoryMustBeSetAndFit) {
  const auto x = random_floats(64, 1);
  id<MTLBuffer> out = buffer_of({0});
  id<MTLComputeCommandEncoder> encoder = open(@"probe_sum");
  [encoder setBuffer:buffer_of(x) offset:0 atIndex:0];
  [encoder setBuffer:out offset:0 atIndex:1];
  const auto dispatch = [&] {
    [encoder dispatchThreadgroups:kOne threadsPerThreadgroup:MTLSizeMake(64, 1, 1)];
  };
  expect_refusal("missing threadgroup memory length at index 0", dispatch);
  expect_refusal("length(4) must be a multiple of 16 bytes.",
                 [&] { [encoder setThreadgroupMemoryLength:4 atIndex:0]; });
  expect_refusal("length(32784) must be <= 32768",
                 [&] { [encoder setThreadgroupMemoryLength:32784 atIndex:0]; });
  [encoder setThreadgroupMemoryLength:256 atIndex:0];
  dispatch();
  [encoder setComputePipelineState:pipeline(@"probe_large")];
  [encoder setThreadgroupMemoryLength:4096 atIndex:0];
  expect_refusal("exceeds the maximum threadgroup memory allowed (32768)", dispatch);
  [encoder endEncoding];
  finish(work);
  float sum = 0;
  for (const float value : x) sum += value;
  EXPECT_EQ(floats(out)[0], sum);
}

TEST_F(Compute, RefusesBadBindings) {
  id<MTLBuffer> data = buffer(64);
  id<MTLComputeCommandEncoder> encoder = open(@"probe_scale");
  const Probe probe{1, 1};
  const auto dispatch = [&] { [encoder dispatchThreadgroups:kOne threadsPerThreadgroup:kOne]; };
  expect_refusal("Compute Function(probe_scale): missing buffer binding at index 0 for x[0].", dispatch);
  [encoder setBuffer:data offset:0 atIndex:0];
  expect_refusal("missing buffer binding at index 1 for y[0].", dispatch);
  [encoder setBuffer:buffer(2) offset:0 atIndex:1];
  [encoder setBytes:&probe length:8 atIndex:2];
  expect_refusal("argument y[0] from buffer(1) with offset(0) and length(2) has space for 2 bytes", dispatch);
  [encoder setBuffer:data offset:0 atIndex:1];
  [encoder setBytes:&probe length:4 atIndex:2];
  expect_refusal("has space for 4 bytes, but argument has a length(8)", dispatch);
  std::vector<char> large(4100);
  expect_refusal("length(4100) must be <= 4096.",
                 [&] { [encoder setBytes:large.data() length:4100 atIndex:2]; });
  [encoder setBytes:large.data() length:4096 atIndex:2];
  expect_refusal("index(31) must be < 31.", [&] { [encoder setBytes:&probe length:8 atIndex:31]; });
  expect_refusal("index(31) must be < 31.", [&] { [encoder setBuffer:data offset:0 atIndex:31]; });
  expect_refusal("offset(64) must be < [buffer length](64).",
                 [&] { [encoder setBuffer:data offset:64 atIndex:0]; });
  expect_refusal("offset(100) must be < [buffer length](64).",
                 [&] { [encoder setBufferOffset:100 atIndex:0]; });
  expect_refusal("no buffer is set at index(5)", [&] { [encoder setBufferOffset:0 atIndex:5]; });
  [encoder setBuffer:data offset:2 atIndex:0];
  expect_refusal("must be a multiple of 4", dispatch);
  [encoder setBuffer:data offset:0 atIndex:0];
  [encoder setBuffer:nil offset:0 atIndex:1];
  expect_refusal("missing buffer binding at index 1", dispatch);
  [encoder endEncoding];
  finish(work);
}

TEST_F(Compute, RefusesBadGrids) {
  id<MTLComputeCommandEncoder> encoder = open(@"probe_small");
  [encoder setBuffer:buffer(8192) offset:0 atIndex:0];
  const auto groups = [&](MTLSize count, MTLSize threads) {
    [encoder dispatchThreadgroups:count threadsPerThreadgroup:threads];
  };
  groups(kOne, MTLSizeMake(64, 1, 1));
  expect_refusal("must be <= 64. (kernel threadgroup size limit)",
                 [&] { groups(kOne, MTLSizeMake(65, 1, 1)); });
  expect_refusal("(threadsPerThreadgroup.width(33) * threadsPerThreadgroup.height(32) * "
                 "threadsPerThreadgroup.depth(1))(1056) "
                 "must be <= 1024. (device threadgroup size limit)",
                 [&] { groups(kOne, MTLSizeMake(33, 32, 1)); });
  expect_refusal("device threadgroup size limit",
                 [&] { groups(kOne, MTLSizeMake(1, 1, NSUInteger{1} << 63)); });
  expect_refusal("threadsPerThreadgroup must be > 0", [&] { groups(kOne, MTLSizeMake(1, 0, 1)); });
  expect_refusal("threadgroupsPerGrid must be > 0", [&] { groups(MTLSizeMake(0, 1, 1), kOne); });
  expect_refusal("threadsPerGrid must be > 0",
                 [&] { [encoder dispatchThreads:MTLSizeMake(1, 0, 1) threadsPerThreadgroup:kOne]; });
  [encoder endEncoding];
  finish(work);
  work = command_buffer();
  id<MTLComputeCommandEncoder> bare = [work computeCommandEncoder];
  expect_refusal("pipeline state must be set",
                 [&] { [bare dispatchThreadgroups:kOne threadsPerThreadgroup:kOne]; });
  id<MTLComputePipelineState> none = nil;
  expect_refusal("must not be nil", [&] { [bare setComputePipelineState:none]; });
  [bare endEncoding];
}

TEST_F(Compute, OutOfBoundsAccessIsAnErrorAndAFault) {
  id<MTLBuffer> out = buffer(64);
  [out setLabel:@"logits"];
  id<MTLComputeCommandEncoder> encoder = open(@"probe_past_end");
  [encoder setBuffer:out offset:0 atIndex:0];
  [encoder dispatchThreads:MTLSizeMake(16, 1, 1) threadsPerThreadgroup:MTLSizeMake(16, 1, 1)];
  [encoder endEncoding];
  [work commit];
  [work waitUntilCompleted];
  EXPECT_EQ([work status], MTLCommandBufferStatusError);
  EXPECT_EQ([[work error] code], MTLCommandBufferErrorPageFault);
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].kind, "shader");
  EXPECT_NE(faults[0].text.find("probe_past_end"), std::string::npos) << faults[0].text;
  EXPECT_NE(std::string([[[work error] localizedDescription] UTF8String]).find("probe_past_end"),
            std::string::npos);
  // The queue goes on.
  id<MTLCommandBuffer> next = command_buffer();
  finish(next);
}

TEST_F(Compute, BarrierThatSomeThreadsMissIsAFault) {
  id<MTLComputeCommandEncoder> encoder = open(@"probe_diverge");
  [encoder setBuffer:buffer(64) offset:0 atIndex:0];
  [encoder dispatchThreadgroups:kOne threadsPerThreadgroup:MTLSizeMake(16, 1, 1)];
  [encoder endEncoding];
  [work commit];
  [work waitUntilCompleted];
  EXPECT_EQ([work status], MTLCommandBufferStatusError);
  const auto faults = emulator::take_faults();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_NE(faults[0].text.find("barrier"), std::string::npos) << faults[0].text;
}

TEST_F(Compute, ConcurrentEncodersNeedBarriers) {
  id<MTLComputePipelineState> store = pipeline(@"probe_store");
  const auto last_stored = [&](MTLDispatchType type, bool barrier) {
    id<MTLBuffer> out = buffer(16);
    id<MTLCommandBuffer> commands = command_buffer();
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoderWithDispatchType:type];
    [encoder setComputePipelineState:store];
    [encoder setBuffer:out offset:0 atIndex:0];
    for (std::uint32_t value = 1; value <= 2; ++value) {
      [encoder setBytes:&value length:4 atIndex:1];
      [encoder dispatchThreadgroups:kOne threadsPerThreadgroup:kOne];
      if (barrier) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
    }
    [encoder endEncoding];
    finish(commands);
    return *static_cast<std::uint32_t*>([out contents]);
  };
  EXPECT_EQ(last_stored(MTLDispatchTypeSerial, false), 2U);
  EXPECT_EQ(last_stored(MTLDispatchTypeConcurrent, true), 2U);
  EXPECT_EQ(last_stored(MTLDispatchTypeConcurrent, false), 1U)
      << "without a barrier the order is the stand-in's to choose";
}

TEST_F(Compute, ShadersAndMpsShareACommandBuffer) {
  const auto a = random_floats(16, 1),
             identity = std::vector<float>{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  id<MTLBuffer> scaled = buffer(64), out = buffer(64);
  id<MTLComputeCommandEncoder> encoder = open(@"probe_scale");
  const Probe probe{16, 2};
  [encoder setBuffer:buffer_of(a) offset:0 atIndex:0];
  [encoder setBuffer:scaled offset:0 atIndex:1];
  [encoder setBytes:&probe length:sizeof probe atIndex:2];
  [encoder dispatchThreads:MTLSizeMake(16, 1, 1) threadsPerThreadgroup:MTLSizeMake(16, 1, 1)];
  [encoder endEncoding];
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:4
                                                                       resultColumns:4
                                                                     interiorColumns:4] autorelease];
  [kernel encodeToCommandBuffer:work
                     leftMatrix:matrix(scaled, 4, 4)
                    rightMatrix:matrix(buffer_of(identity), 4, 4)
                   resultMatrix:matrix(out, 4, 4)];
  finish(work);
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(floats(out)[i], 2 * a[i]);
}

}  // namespace
}  // namespace emulator_test
