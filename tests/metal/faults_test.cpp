// What only the stand-in can provoke: failing command buffers, failing allocations, slow completion, and a
// look at every live object.
#if defined(CANDELA_EMULATED_METAL)

#include <emulator/control.h>
#include <map>
#include <thread>

#include <candela/core/device.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/softmax.h>

#include "backend/metal/memory.h"
#include "metal/support.h"

namespace candela::metal_tests {
namespace {

class Faults : public MetalTest {
 protected:
  void SetUp() override {
    MetalTest::SetUp();
    device_interface(metal()).synchronize();
    emulator::reset();
  }
  void TearDown() override {
    MetalTest::TearDown();
    emulator::reset();
    // Whatever a test left behind must not reach the next one.
    try {
      device_interface(metal()).synchronize();
    } catch (const DeviceError&) {
    }
  }

  static Tensor run_some() {
    return softmax(matmul(random_tensor({20, 30}, 1), random_tensor({30, 20}, 2)), 1);
  }
  static void expect_recovered() {
    const std::vector<double> got = values(run_some());
    double total = 0;
    for (std::size_t i = 0; i < 20; ++i) total += got[i];
    EXPECT_NEAR(total, 1, 1e-5);
  }
};

TEST_F(Faults, FailedCommandBufferNamesItsOps) {
  for (const int code : {emulator::kInternalError, emulator::kTimeoutError, emulator::kPageFaultError,
                         emulator::kOutOfMemoryError, emulator::kInvalidResourceError}) {
    const Since since;
    const Tensor a = random_tensor({20, 30}, 1);
    const Tensor b = random_tensor({30, 20}, 2);
    emulator::fail_command_buffers(code);
    const Tensor y = softmax(matmul(a, b), 1);
    try {
      y.to_vector<float>();
      FAIL() << "the failure of code " << code << " was not seen";
    } catch (const DeviceError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("matmul"), std::string::npos) << text;
      EXPECT_NE(text.find("softmax"), std::string::npos) << text;
      EXPECT_EQ(text.find("metal: the command buffer with "), 0U) << text;
      EXPECT_EQ(text.find("smaller batch") != std::string::npos, code == emulator::kOutOfMemoryError) << text;
    }
    EXPECT_EQ(since.now().failures, 1U);
    expect_recovered();
  }
}

TEST_F(Faults, EveryFailureIsReportedOnce) {
  const Tensor x = random_tensor({8, 8}, 1);
  emulator::fail_command_buffers(emulator::kInternalError, 0, 2);
  affine(x, 2, 0);
  EXPECT_THROW(device_interface(metal()).synchronize(), DeviceError);
  EXPECT_NO_THROW(device_interface(metal()).synchronize());
  affine(x, 2, 0);
  EXPECT_THROW(device_interface(metal()).synchronize(), DeviceError);
  expect_recovered();
}

TEST_F(Faults, OneFailedAllocationIsSurvived) {
  device_interface(metal()).allocator().trim();
  emulator::fail_allocations(0, 1);
  EXPECT_NO_THROW(Tensor::empty({1 << 20}, DType::F32, metal()));
  expect_recovered();
  EXPECT_GE(emulator::counters().failed_allocations, 1U);
}

TEST_F(Faults, LastingShortageIsAClearError) {
  device_interface(metal()).allocator().trim();
  emulator::fail_allocations(0, 1'000'000);
  try {
    Tensor::empty({1 << 20}, DType::F32, metal());
    FAIL() << "no error";
  } catch (const DeviceError& error) {
    EXPECT_EQ(std::string(error.what()).find("allocate: metal:0 has no room for"), 0U) << error.what();
  }
  emulator::reset();
  expect_recovered();
}

TEST_F(Faults, WorkingSetLimitIsRespected) {
  device_interface(metal()).allocator().trim();
  const std::size_t used = emulator::allocated_bytes();
  emulator::set_working_set_limit(used + (std::size_t{8} << 20U));
  EXPECT_NO_THROW(Tensor::empty({1 << 20}, DType::F32, metal()));
  EXPECT_THROW(Tensor::empty({1 << 23}, DType::F32, metal()), DeviceError);
  EXPECT_LE(emulator::allocated_bytes(), used + (std::size_t{8} << 20U));
  // Cached memory makes room for what is asked for next.
  for (int i = 1; i <= 6; ++i) EXPECT_NO_THROW(Tensor::empty({i << 18}, DType::F32, metal()));
}

TEST_F(Faults, MemoryInFlightIsWaitedForBeforeGivingUp) {
  device_interface(metal()).allocator().trim();
  const std::size_t used = emulator::allocated_bytes();
  emulator::set_working_set_limit(used + (std::size_t{12} << 20U));
  emulator::set_completion_delay(50);
  // 8 MiB that only a slow command buffer holds, then 8 MiB of another size class.
  { const Tensor held = full({1 << 21}, 1, DType::F32, metal()); }
  EXPECT_NO_THROW(Tensor::empty({(1 << 21) + (1 << 18)}, DType::F32, metal()));
}

TEST_F(Faults, SlowCompletionStallsAtTheLimitOfBuffersInFlight) {
  metal::EngineLimits limits;
  limits.ops = 1;
  limits.in_flight = 3;
  emulator::set_completion_delay(5);
  metal::Engine engine(metal::objc::Device::system_default(), limits);
  for (int i = 0; i < 20; ++i) engine.encode("count", {}, [](metal::Encoding&) {});
  EXPECT_GE(engine.counters().read().stalls, 10U);
  engine.synchronize();
  EXPECT_LE(emulator::counters().max_in_flight, 4U) << "three committed, one open";
}

TEST_F(Faults, FailedPipelineIsAnErrorAndCanBeMadeLater) {
  metal::AtomicCounters counters;
  metal::ShaderLibrary shaders(metal::objc::Device::system_default(), counters);
  emulator::fail_pipelines(0, 1);
  EXPECT_THROW(shaders.pipeline("norm", "add_pieces"), DeviceError);
  EXPECT_NO_THROW(shaders.pipeline("norm", "add_pieces"));
}

TEST_F(Faults, FewerThreadsPerPipelineStillGiveTheSameRows) {
  emulator::set_max_threads_per_pipeline(64);
  metal::EngineLimits limits;
  metal::Engine engine(metal::objc::Device::system_default(), limits);
  const Tensor x = random_tensor({3, 500}, 1);
  const Tensor weight = ones({500}, DType::F32, metal());
  const Tensor out = full({3, 500}, NAN, DType::F32, metal());
  device_interface(metal()).synchronize();
  const Kernel<RmsNormArgs>* kernel = find_kernel(&KernelTable::rms_norm, "own");
  kernel->run(RmsNormArgs{x, {}, weight, out, {}, {}, 1e-6}, engine);
  engine.synchronize();
  EXPECT_LE(relative_error(out, rms_norm(x, weight, 1e-6)), 1e-6);
}

/// One round of everything that this backend has.
void one_of_everything(std::uint64_t seed) {
  const std::int64_t n = 4 + static_cast<std::int64_t>(seed % 7);
  Tensor x = random_tensor({n, 12}, seed);
  const Tensor weight = random_tensor({12, 12}, seed + 1);
  LoraLinear layer{weight, {}, random_tensor({2, 12}, 3), random_tensor({12, 2}, 4), 2.0};
  x = rms_norm(lora_linear(matmul(x, weight), std::span(&layer, 1))[0], ones({12}, DType::F32, metal()),
               1e-6);
  softmax(contiguous(transpose(x, 0, 1)), static_cast<int>(seed % 2)).to_vector<float>();
}

TEST_F(Faults, ThousandIterationsLeaveNothingBehind) {
  for (std::uint64_t seed = 0; seed < 14; ++seed) one_of_everything(seed);
  const auto settled = [] {
    device_interface(metal()).synchronize();
    device_interface(metal()).allocator().trim();
    return std::pair{emulator::live_objects(), emulator::allocated_bytes()};
  };
  const auto before = settled();
  const std::size_t reserved = device_interface(metal()).allocator().stats().reserved;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) one_of_everything(seed);
  const auto after = settled();
  EXPECT_EQ(after.first, before.first);
  EXPECT_EQ(after.second, before.second);
  EXPECT_EQ(device_interface(metal()).allocator().stats().reserved, reserved);
  EXPECT_EQ(device_interface(metal()).allocator().stats().allocated, 0U);
}

}  // namespace
}  // namespace candela::metal_tests

#endif
