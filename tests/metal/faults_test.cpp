// What only the stand-in can provoke: failing command buffers, failing allocations, slow completion.
#if defined(CANDELA_EMULATED_METAL)

#include <condition_variable>
#include <emulator/control.h>
#include <mutex>
#include <thread>

#include <candela/core/device.h>
#include <candela/ops/attention.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/softmax.h>

#include "backend/metal/matmul.h"
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
      EXPECT_EQ(text.find("smaller batch") != std::string::npos,
                code == emulator::kOutOfMemoryError || code == emulator::kTimeoutError)
          << text;
    }
    EXPECT_EQ(since.now().failures, 1U);
    expect_recovered();
  }
}

/// A queue that had a time-out or a page fault ignores what follows: the engine takes another.
TEST_F(Faults, AQueueThatIgnoresSubmissionsIsMadeAnew) {
  for (const int code : {emulator::kTimeoutError, emulator::kPageFaultError}) {
    const Since since;
    const Tensor x = random_tensor({8, 8}, 1);
    emulator::fail_command_buffers(code);
    affine(x, 2, 0);
    EXPECT_THROW(device_interface(metal()).synchronize(), DeviceError);
    EXPECT_EQ(affine(x, 2, 0).to_vector<float>(),
              affine(to_device(x, Device::cpu()), 2, 0).to_vector<float>());
    EXPECT_EQ(since.now().queues, 1U);
    EXPECT_EQ(since.now().failures, 1U);
  }
}

/// What was committed to the old queue meanwhile is lost too, and told as one calamity.
TEST_F(Faults, WhatTheQueueIgnoredIsToldWithTheFaultThatCausedIt) {
  const Tensor x = random_tensor({8, 8}, 1);
  device_interface(metal()).synchronize();
  emulator::set_completion_delay(5);
  metal::EngineLimits limits;
  limits.ops = 1;
  metal::Engine engine(metal::objc::Device::system_default(), limits);
  const Kernel<UnaryArgs>& kernel = backend(metal()).kernels().unary.kernels.front();
  const Tensor out = Tensor::empty({8, 8}, DType::F32, metal());
  emulator::fail_command_buffers(emulator::kPageFaultError);
  for (int i = 0; i < 3; ++i) kernel.run(UnaryArgs{UnaryOp::Exp, x, out}, engine);
  try {
    engine.synchronize();
    FAIL() << "the failure was not seen";
  } catch (const DeviceError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("Address Fault"), std::string::npos) << text;
    EXPECT_NE(text.find("(and 2 more command buffers after it)"), std::string::npos) << text;
  }
  kernel.run(UnaryArgs{UnaryOp::Exp, x, out}, engine);
  EXPECT_NO_THROW(engine.synchronize());
}

TEST_F(Faults, TheWatchdogsErrorSaysWhatToDo) {
  for (const int code : {emulator::kInteractivityError, emulator::kTimeoutError}) {
    emulator::fail_command_buffers(code);
    const Tensor y = run_some();
    try {
      y.to_vector<float>();
      FAIL() << "the failure of code " << code << " was not seen";
    } catch (const DeviceError& error) {
      EXPECT_NE(std::string(error.what()).find("use a smaller batch or a shorter maximum length"),
                std::string::npos)
          << error.what();
    }
    expect_recovered();
  }
}

/// The watchdog kills a dispatch that runs for too long, even in a command buffer of its own: products and
/// attention are cut by their work.
TEST_F(Faults, LongProductsAndAttentionAreCutForTheWatchdog) {
  const Tensor a = random_tensor({640, 40}, 1, DType::BF16);
  const Tensor b = random_tensor({40, 64}, 2, DType::BF16);
  const Tensor x = random_tensor({4, 64, 2, 16}, 3);
  const Tensor one_row = random_tensor({1, 64, 4, 16}, 4);
  const Tensor two_rows = random_tensor({2, 64, 4, 16}, 5);  // each of them too much
  const std::vector<double> product = values(matmul(a, b));
  const std::vector<double> seen = values(attention(x, x, x));
  const std::vector<double> seen_by_row = values(attention(one_row, one_row, one_row));
  const std::vector<double> seen_by_two = values(attention(two_rows, two_rows, two_rows));
  const Kernel<MatmulArgs>* tiles = find_kernel(&KernelTable::matmul, "simdgroup");
  const Kernel<AttentionArgs>* flash = find_kernel(&KernelTable::attention, "flash");
  ASSERT_TRUE(tiles != nullptr && flash != nullptr);
  emulator::set_watchdog(512);
  metal::EngineLimits limits;
  const auto run_all = [&] {
    metal::Engine engine(metal::objc::Device::system_default(), limits);
    const Tensor c = Tensor::empty({640, 64}, DType::BF16, metal());
    tiles->run(MatmulArgs{a, b, c, {}, 1, 0}, engine);
    const Tensor out = Tensor::empty(x.shape(), DType::F32, metal());
    flash->run(AttentionArgs{x, x, x, out, {}, {}, {}, {}, 0.25, true}, engine);
    const Tensor row_out = Tensor::empty(one_row.shape(), DType::F32, metal());
    flash->run(AttentionArgs{one_row, one_row, one_row, row_out, {}, {}, {}, {}, 0.25, true}, engine);
    const Tensor two_out = Tensor::empty(two_rows.shape(), DType::F32, metal());
    flash->run(AttentionArgs{two_rows, two_rows, two_rows, two_out, {}, {}, {}, {}, 0.25, true}, engine);
    engine.synchronize();
    EXPECT_GE(engine.counters().read().commits, 8U) << "commits follow the work";
    emulator::set_watchdog(0);
    EXPECT_EQ(values(c), product);
    EXPECT_EQ(values(out), seen);
    EXPECT_EQ(values(row_out), seen_by_row);
    EXPECT_EQ(values(two_out), seen_by_two);
  };
  EXPECT_THROW(run_all(), DeviceError) << "10 tiles in one dispatch are too many";
  limits.flop = 4e5;
  EXPECT_NO_THROW(run_all());
}

/// M1 and M2 corrupt rows of MPS products where (row + 2 K) N element size reaches 2^31; here at a limit that
/// a test can afford.
#if defined(CANDELA_MPS)
TEST_F(Faults, LargeMpsProductsAreCutBelowTheSizeThatCorruptsRows) {
  constexpr std::uint64_t kLimit = 1 << 16;
  const Tensor a = random_tensor({40, 30}, 1);
  const Tensor b = random_tensor({30, 200}, 2);
  const std::vector<double> expected = product(values(a), values(b), 40, 30, 200);
  device_interface(metal()).synchronize();
  emulator::set_mps_product_limit(kLimit);
  metal::Engine engine(metal::objc::Device::system_default(), metal::EngineLimits{});
  const auto run = [&](double limit) {
    const Tensor out = full({40, 200}, 0, DType::F32, metal());
    device_interface(metal()).synchronize();
    metal::encode_mps_parts(&engine, MatmulArgs{a, b, out, {}, 1, 0}, {}, limit);
    engine.synchronize();
    return out;
  };
  const Tensor whole = run(metal::kMpsProductLimit);
  EXPECT_TRUE(std::isnan(whole.to_vector<float>().back())) << "(39 + 60) 200 4 reaches the limit";
  EXPECT_FALSE(std::isnan(whole.to_vector<float>().front())) << "60 200 4 does not";
  EXPECT_LE(relative_error(values(run(kLimit)), expected), 1e-5);
}

TEST_F(Faults, MpsRefusesAProductThatNoCutSaves) {
  MatmulArgs args{random_tensor({2, 2}, 1), random_tensor({2, 2}, 2), random_tensor({2, 2}, 3), {}, 1, 0};
  EXPECT_EQ(metal::mps_matmul_supports(args), "");
  args.a.shape[1] = args.b.shape[0] = std::int64_t{1} << 28;  // looked at, never read
  args.a.strides[0] = args.a.shape[1];
  EXPECT_EQ(metal::mps_matmul_supports(args), "MPS would corrupt a product of this inner dimension");
}
#endif

/// Apple's GPUs take f32 subnormals for zero.
TEST_F(Faults, SubnormalsAreZeroOnTheDevice) {
  const Tensor x = Tensor::from_values(std::vector<float>{1e-40F, -1e-39F, 1e-30F}, {3}, metal());
  EXPECT_EQ(affine(x, 1, 0).to_vector<float>(), (std::vector<float>{0, 0, 1e-30F}));
  EXPECT_EQ(affine(x, 1e-10, 0).to_vector<float>(), (std::vector<float>{0, 0, 0}));
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

/// Runs `body` on a thread of its own; true if it ended in a DeviceError.
template <class Body>
bool fails_on_a_thread(Body&& body) {
  bool failed = false;
  std::thread([&] {
    try {
      body();
    } catch (const DeviceError&) {
      failed = true;
    }
  }).join();
  return failed;
}

TEST_F(Faults, AFailureReachesTheThreadThatEncodedWhoeverWaitsFirst) {
  const auto read = [] { device_interface(metal()).synchronize(); };
  const Tensor x = random_tensor({8, 8}, 1);
  emulator::fail_command_buffers(emulator::kInternalError);
  const Tensor lost = affine(x, 2, 0);
  EXPECT_TRUE(fails_on_a_thread(read)) << "a thread without work of its own reads that of others";
  EXPECT_THROW(lost.to_vector<float>(), DeviceError);
  EXPECT_NO_THROW(read()) << "each thread is told once";
  expect_recovered();
  EXPECT_FALSE(fails_on_a_thread(expect_recovered)) << "work that began after the failure was told";
}

TEST_F(Faults, AFailureReachesEveryThreadThatWentOnAfterIt) {
  std::mutex mutex;
  std::condition_variable changed;
  int stage = 0;
  const auto reach = [&](int next) {
    const std::lock_guard lock(mutex);
    stage = next;
    changed.notify_all();
  };
  const auto wait_for = [&](int wanted) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stage >= wanted; });
  };
  const Tensor x = random_tensor({8, 8}, 1);
  device_interface(metal()).synchronize();
  bool before_threw = false;
  bool after_threw = false;
  // One thread whose work is done before the failure, one that encodes behind it.
  std::thread before([&] {
    const Tensor y = affine(x, 3, 0);
    device_interface(metal()).synchronize();
    reach(1);
    wait_for(3);
    const Tensor z = affine(x, 4, 0);
    try {
      z.to_vector<float>();
    } catch (const DeviceError&) {
      before_threw = true;
    }
  });
  wait_for(1);
  emulator::fail_command_buffers(emulator::kInternalError);
  affine(x, 2, 0);
  static_cast<metal::Engine&>(backend(metal()).stream()).flush();
  std::thread after([&] {
    const Tensor y = affine(x, 5, 0);
    reach(2);
    wait_for(3);
    try {
      y.to_vector<float>();
    } catch (const DeviceError&) {
      after_threw = true;
    }
  });
  wait_for(2);
  EXPECT_THROW(device_interface(metal()).synchronize(), DeviceError);
  reach(3);
  before.join();
  after.join();
  EXPECT_FALSE(before_threw) << "it began anew once the failure was told";
  EXPECT_TRUE(after_threw) << "its work lay behind the failed command buffer";
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
  const Kernel<RmsNormArgs>* kernel = find_kernel(&KernelTable::rms_norm, "native");
  kernel->run(RmsNormArgs{x, {}, weight, out, {}, {}, 1e-6}, engine);
  engine.synchronize();
  EXPECT_LE(relative_error(out, rms_norm(x, weight, 1e-6)), 1e-6);
}

}  // namespace
}  // namespace candela::metal_tests

#endif
