#include "support.h"

namespace emulator_test {

void EmulatorTest::SetUp() {
  emulator::reset();
  live_before_ = emulator::live_objects();
  pool_ = [[NSAutoreleasePool alloc] init];
  device = MTLCreateSystemDefaultDevice();
  queue = [device newCommandQueue];
}

void EmulatorTest::TearDown() {
  [queue release];
  [pool_ drain];  // before the device goes: what it holds may name it
  [device release];
  EXPECT_EQ(emulator::live_objects(), live_before_) << "objects were released too seldom or too often";
  for (const auto& fault : emulator::take_faults()) ADD_FAILURE() << fault.kind << ": " << fault.text;
  emulator::reset();
}

id<MTLBuffer> EmulatorTest::buffer(NSUInteger bytes, MTLResourceOptions options) {
  return [[device newBufferWithLength:bytes options:options] autorelease];
}

id<MTLBuffer> EmulatorTest::buffer_of(const std::vector<float>& values) {
  return [[device newBufferWithBytes:values.data()
                              length:values.size() * sizeof(float)
                             options:MTLResourceStorageModeShared] autorelease];
}

void EmulatorTest::finish(id<MTLCommandBuffer> buffer) {
  [buffer commit];
  [buffer waitUntilCompleted];
  ASSERT_EQ([buffer status], MTLCommandBufferStatusCompleted)
      << [[[buffer error] localizedDescription] UTF8String];
}

void expect_refusal(const std::string& part, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "expected a refusal with: " << part;
  } catch (const emulator::ValidationError& error) {
    EXPECT_NE(error.assertion().find(part), std::string::npos) << "got: " << error.what();
    EXPECT_NE(std::string(error.what()).find("failed assertion `"), std::string::npos);
  }
}

float* floats(id<MTLBuffer> buffer) { return static_cast<float*>([buffer contents]); }

std::vector<float> random_floats(std::size_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(generator);
  return values;
}

std::vector<float> to_vector(id<MTLBuffer> buffer, std::size_t count) {
  return {floats(buffer), floats(buffer) + count};
}

MPSMatrix* matrix(id<MTLBuffer> buffer, NSUInteger rows, NSUInteger columns, MPSDataType type,
                  NSUInteger matrices) {
  const NSUInteger row_bytes = columns * MPSSizeofMPSDataType(type);
  MPSMatrixDescriptor* descriptor = [MPSMatrixDescriptor matrixDescriptorWithRows:rows
                                                                          columns:columns
                                                                         matrices:matrices
                                                                         rowBytes:row_bytes
                                                                      matrixBytes:rows * row_bytes
                                                                         dataType:type];
  return [[[MPSMatrix alloc] initWithBuffer:buffer descriptor:descriptor] autorelease];
}

}  // namespace emulator_test
