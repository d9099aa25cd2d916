#pragma once

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#include <gtest/gtest.h>

#include <emulator/control.h>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace emulator_test {

/// Each test starts from a reset stand-in and must end with no fault that it did not take and as many live
/// objects as before.
class EmulatorTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// An autoreleased shared buffer.
  id<MTLBuffer> buffer(NSUInteger bytes, MTLResourceOptions options = MTLResourceStorageModeShared);
  id<MTLBuffer> buffer_of(const std::vector<float>& values);
  id<MTLCommandBuffer> command_buffer() { return [queue commandBuffer]; }
  /// Commits and waits; fails the test unless the buffer completes.
  void finish(id<MTLCommandBuffer> buffer);

  id<MTLDevice> device = nil;
  id<MTLCommandQueue> queue = nil;

 private:
  NSAutoreleasePool* pool_ = nil;
  std::map<std::string, std::int64_t> live_before_;
};

/// Expects a ValidationError whose assertion contains `part`.
void expect_refusal(const std::string& part, const std::function<void()>& call);

float* floats(id<MTLBuffer> buffer);
std::vector<float> random_floats(std::size_t count, std::uint32_t seed);
std::vector<float> to_vector(id<MTLBuffer> buffer, std::size_t count);

/// An autoreleased matrix of packed rows.
MPSMatrix* matrix(id<MTLBuffer> buffer, NSUInteger rows, NSUInteger columns,
                  MPSDataType type = MPSDataTypeFloat32, NSUInteger matrices = 1);

}  // namespace emulator_test
