#include "backend/metal/engine.h"

#include <thread>

#include <candela/core/device.h>
#include <candela/ops/attention.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>
#include <candela/ops/softmax.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

class Engine : public MetalTest {};

/// A rotation in every pair of dimensions: chains of products with it neither grow nor shrink.
Tensor rotation(std::int64_t n, double angle) {
  std::vector<float> numbers(static_cast<std::size_t>(n * n), 0);
  for (std::int64_t i = 0; i < n; i += 2) {
    numbers[static_cast<std::size_t>(i * n + i)] = numbers[static_cast<std::size_t>((i + 1) * n + i + 1)] =
        static_cast<float>(std::cos(angle));
    numbers[static_cast<std::size_t>(i * n + i + 1)] = static_cast<float>(-std::sin(angle));
    numbers[static_cast<std::size_t>((i + 1) * n + i)] = static_cast<float>(std::sin(angle));
  }
  return Tensor::from_values(numbers, {n, n}, metal());
}

TEST_F(Engine, ThousandChainedProducts) {
  const Tensor step = rotation(16, 0.1);
  const Tensor start = random_tensor({16, 16}, 2);
  device_interface(metal()).synchronize();
  // An engine of its own: nothing that another test made can hide what this one makes.
  metal::Engine engine(metal::objc::Device::system_default(), metal::EngineLimits{});
  const Kernel<MatmulArgs>& kernel = backend(metal()).kernels().matmul.kernels.front();
  Tensor x = start;
  for (int i = 0; i < 1000; ++i) {
    const Tensor next = Tensor::empty({16, 16}, DType::F32, metal());
    ASSERT_EQ(kernel.supports(MatmulArgs{x, step, next, {}, 1, 0}), "");
    kernel.run(MatmulArgs{x, step, next, {}, 1, 0}, engine);
    x = next;
  }
  const metal::Counters counts = engine.counters().read();
  EXPECT_EQ(counts.ops, 1000U);
  EXPECT_EQ(counts.queues, 1U);
  EXPECT_EQ(counts.kernels_made + counts.pipelines_made, 1U);
  EXPECT_EQ(counts.kernel_hits + counts.pipeline_hits, 999U);
  EXPECT_EQ(counts.command_buffers, 25U) << "40 ops each";
  EXPECT_EQ(counts.waits, 0U) << "nothing was read yet";
  EXPECT_EQ(counts.contiguous_copies + counts.host_runs, 0U);
  engine.synchronize();
  EXPECT_LE(engine.counters().read().waits, 1U);
  Tensor reference = to_device(start, Device::cpu());
  const Tensor cpu_step = to_device(step, Device::cpu());
  for (int i = 0; i < 1000; ++i) reference = matmul(reference, cpu_step);
  EXPECT_LE(relative_error(values(x), values(reference)), 1e-3);
}

/// The shader reads and checks cu_seqlens.
TEST_F(Engine, PackedSequencesCostNoWait) {
  const Tensor x = random_tensor({1, 6, 2, 8}, 1);
  AttentionOptions options;
  options.cu_seqlens = to_device(Tensor::from_values(std::vector<std::int32_t>{0, 2, 6}, {3}), metal());
  device_interface(metal()).synchronize();
  const Since since;
  Tensor y = x;
  for (int layer = 0; layer < 5; ++layer) y = attention(mul(y, x), y, y, options);
  EXPECT_EQ(since.now().waits, 0U);
  EXPECT_EQ(since.now().host_runs, 0U);
}

TEST_F(Engine, AThousandOpsOfTheLibraryWaitOnce) {
  const Tensor step = rotation(16, 0.1);
  Tensor x = random_tensor({16, 16}, 2);
  matmul(x, step).to_vector<float>();
  const Since since;
  for (int i = 0; i < 1000; ++i) x = matmul(x, step);
  const metal::Counters counts = since.now();
  EXPECT_EQ(counts.ops, 1000U);
  EXPECT_EQ(counts.queues, 0U);
  EXPECT_LE(metal::counters(metal()).queues, 1 + metal::counters(metal()).failures);
  EXPECT_EQ(counts.kernels_made + counts.pipelines_made, 0U) << "made by the first product";
  EXPECT_LE(counts.command_buffers, 25U);
  EXPECT_EQ(counts.waits, 0U) << "nothing was read yet";
  x.to_vector<float>();
  EXPECT_LE(since.now().waits, 1U);
}

TEST_F(Engine, OneKernelObjectPerShape) {
  const Tensor a = random_tensor({37, 41}, 1);
  const Tensor b = random_tensor({41, 43}, 2);
  const Since since;
  for (int i = 0; i < 5; ++i) matmul(a, b);
  EXPECT_LE(since.now().kernels_made + since.now().pipelines_made, 1U);
  EXPECT_GE(since.now().kernel_hits + since.now().pipeline_hits, 4U);
}

TEST_F(Engine, WorkIsBoundedPerCommandBuffer) {
  metal::EngineLimits limits;
  limits.ops = 4;
  limits.in_flight = 2;
  metal::Engine engine(metal::objc::Device::system_default(), limits);
  int encoded = 0;
  for (int i = 0; i < 40; ++i) engine.encode("count", {}, [&](metal::Encoding&) { ++encoded; });
  EXPECT_EQ(encoded, 40);
  EXPECT_EQ(engine.counters().read().commits, 10U);
  engine.encode("large", {1e12, 0}, [](metal::Encoding&) {});
  EXPECT_EQ(engine.counters().read().commits, 11U) << "a large op is committed at once";
  engine.synchronize();
  EXPECT_EQ(engine.counters().read().commits, 11U) << "nothing was open";
}

TEST_F(Engine, MpsAndOwnShadersShareACommandBuffer) {
  const Tensor a = random_tensor({20, 20}, 1);
  const Tensor weight = ones({20}, DType::F32, metal());
  a.to_vector<float>();
  const Since since;
  Tensor x = a;
  for (int i = 0; i < 5; ++i) x = softmax(rms_norm(matmul(x, a), weight, 1e-6), 0);
  EXPECT_EQ(since.now().host_runs, 0U);
  EXPECT_EQ(since.now().waits, 0U);
  EXPECT_LE(since.now().command_buffers, 1U);
  EXPECT_NEAR(sum(x, {0}).to_vector<float>()[7], 1, 1e-5);
}

TEST_F(Engine, FourThreadsEncodeAtOnce) {
  constexpr int kThreads = 4;
  std::vector<double> errors(kThreads, HUGE_VAL);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t, &errors] {
      const std::int64_t n = 8 + 3 * t;
      const auto chain = [&](Device device) {
        Tensor x = random_tensor({n, n}, static_cast<std::uint64_t>(t), DType::F32, device);
        const Tensor w = random_tensor({n, n}, static_cast<std::uint64_t>(100 + t), DType::F32, device);
        for (int i = 0; i < 50; ++i) x = softmax(matmul(x, w), i % 2);
        return values(x);
      };
      errors[static_cast<std::size_t>(t)] = relative_error(chain(metal()), chain(Device::cpu()));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : errors) EXPECT_LE(error, 1e-4);
}

/// f64, which Metal does not have.
TEST_F(Engine, OpsWithoutMetalImplementationRunOnTheHost) {
  const Tensor x = random_tensor({100}, 1, DType::F64);
  const Since since;
  const std::uint64_t before = runs_of(&KernelTable::unary, "host");
  EXPECT_EQ(affine(x, 2, 1).to_vector<double>(),
            affine(to_device(x, Device::cpu()), 2, 1).to_vector<double>());
  EXPECT_EQ(since.now().host_runs, 1U);
  EXPECT_EQ(runs_of(&KernelTable::unary, "host"), before + 1);
}

TEST_F(Engine, RandomNumbersAreThoseOfTheCpu) {
  const Since since;
  Generator generator(1);
  generator.set_offset(1026);
  const Tensor x = uniform({101}, generator, 0, 1, DType::F32, metal());
  Generator same(1);
  same.set_offset(1026);
  EXPECT_EQ(x.to_vector<float>(), uniform({101}, same).to_vector<float>());
  EXPECT_EQ(since.now().host_runs, 0U);
}

TEST_F(Engine, CountersBelongToMetalDevices) {
  EXPECT_THROW(metal::counters(Device::cpu()), DeviceError);
}

}  // namespace
}  // namespace candela::metal_tests
