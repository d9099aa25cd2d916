// Indices are checked on the GPU: what is out of range is told where the host reads.
#include <thread>

#include <candela/core/device.h>
#include <candela/core/error.h>
#include <candela/ops/attention.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/loss.h>
#include <candela/ops/reduce.h>
#include <candela/ops/rope.h>

#include "backend/metal/engine.h"
#include "metal/support.h"
#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif

namespace candela::metal_tests {
namespace {

template <class I>
Tensor indices(const std::vector<I>& values) {
  return Tensor::from_values(values, {static_cast<std::int64_t>(values.size())}, metal());
}

/// What reading `result` says; "" if nothing.
std::string told(const Tensor& result) {
  try {
    result.to_vector<float>();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return {};
}

class DataFault : public MetalTest {
 protected:
  void TearDown() override {
    EXPECT_NO_THROW(device_interface(metal()).synchronize()) << "each fault is told once";
    MetalTest::TearDown();
  }
  const Tensor table_ = random_tensor({10, 4}, 1);
};

TEST_F(DataFault, EveryOpWithIndicesNamesItselfTheRangeAndTheValue) {
  const Since since;
  EXPECT_EQ(told(embedding(table_, indices<std::int32_t>({3, 12, 1}))),
            "embedding: ids must be in [0, 10); got 12");
  EXPECT_EQ(told(embedding(table_, indices<std::int64_t>({-1}))),
            "embedding: ids must be in [0, 10); got -1");
  EXPECT_EQ(told(embedding(table_, indices<std::int64_t>({std::int64_t{1} << 40}))),
            "embedding: ids must be in [0, 10); got 1099511627776");
  const Tensor picks = Tensor::from_values(std::vector<std::int32_t>(10, 4), {10, 1}, metal());
  EXPECT_EQ(told(gather(table_, 1, picks)), "gather: indices must be in [0, 4); got 4");
  EXPECT_EQ(told(cross_entropy(table_, indices(std::vector<std::int32_t>(10, 4)))),
            "cross_entropy: targets must be in [0, 4); got 4");
  const Tensor hidden = random_tensor({3, 8}, 2);
  EXPECT_EQ(
      told(linear_cross_entropy(hidden, Weight(random_tensor({6, 8}, 3)), indices<std::int64_t>({0, -7, 5}))),
      "cross_entropy: targets must be in [0, 6); got -7");
  RopeConfig config;
  config.rotary_dim = 4;
  const RopeTable angles = rope_table(config, 5, metal());
  EXPECT_EQ(told(rope(random_tensor({1, 3, 2, 4}, 4), angles, indices<std::int32_t>({0, 5, 1}))),
            "rope: positions must be in [0, 5); got 5");
  EXPECT_EQ(since.now().host_runs, 0U);
  EXPECT_EQ(since.now().failures, 0U) << "no command buffer failed";
}

TEST_F(DataFault, PackedBoundsMustCoverTheTokens) {
  const Tensor x = random_tensor({1, 200, 2, 4}, 1);
  const auto told_of = [&](const std::vector<std::int32_t>& bounds) {
    return told(attention(x, x, x, {.cu_seqlens = indices(bounds)}));
  };
  EXPECT_EQ(told_of({0, 150, 100, 200}), "attention: cu_seqlens must not decrease; got 100 after 150");
  EXPECT_EQ(told_of({0, 100}), "attention: cu_seqlens must end at T = 200; got 100");
  EXPECT_EQ(told_of({0, 100, 900}), "attention: cu_seqlens must end at T = 200; got 900");
  EXPECT_EQ(told_of({-4, 200}), "attention: cu_seqlens must start at 0; got -4");
  EXPECT_EQ(told_of({0, 70, 70, 200}), "");
}

/// In one command buffer: the first that a shader met, and what comes later is right again.
TEST_F(DataFault, TheFirstOfACommandBufferIsToldAndTheNextOneIsClean) {
  const Tensor bad = embedding(table_, indices<std::int32_t>({10}));
  const Tensor worse = cross_entropy(table_, indices(std::vector<std::int32_t>(10, 9)));
  EXPECT_EQ(told(add(sum_to(bad, {1}), worse)), "embedding: ids must be in [0, 10); got 10");
  const Tensor good = embedding(table_, indices<std::int32_t>({9}));
  EXPECT_EQ(told(good), "");
  EXPECT_EQ(values(good), values(slice(table_, 0, 9, 10)));
}

/// A command buffer before the bad one and one after it keep to themselves.
TEST_F(DataFault, AFaultBelongsToItsCommandBuffer) {
  metal::EngineLimits limits;
  limits.ops = 1;
  metal::Engine engine(metal::objc::Device::system_default(), limits);
  const Tensor ids = indices<std::int32_t>({1, 2, 3});
  const Tensor bad_ids = indices<std::int32_t>({1, 99, 3});
  const Tensor out = Tensor::empty({3, 4}, DType::F32, metal());
  device_interface(metal()).synchronize();
  const Kernel<EmbeddingArgs>& kernel = backend(metal()).kernels().embedding.kernels.front();
  std::thread([&] {
    kernel.run(EmbeddingArgs{table_, ids, out}, engine);
    EXPECT_NO_THROW(engine.synchronize());
  }).join();
  kernel.run(EmbeddingArgs{table_, bad_ids, out}, engine);
  EXPECT_THROW(engine.synchronize(), InvalidArgument);
  for (int i = 0; i < 300; ++i) kernel.run(EmbeddingArgs{table_, ids, out}, engine);
  EXPECT_NO_THROW(engine.synchronize()) << "slots that come around again are free";
}

#if defined(CANDELA_EMULATED_METAL)
/// Results that never came weigh more than an index that was out of range before them.
TEST_F(DataFault, AFailureOfTheDeviceIsToldBeforeIt) {
  metal::EngineLimits limits;
  limits.ops = 1;
  metal::Engine engine(metal::objc::Device::system_default(), limits);
  const Tensor ids = indices<std::int32_t>({1, 2, 3});
  const Tensor bad_ids = indices<std::int32_t>({1, 99, 3});
  const Tensor out = Tensor::empty({3, 4}, DType::F32, metal());
  device_interface(metal()).synchronize();
  const Kernel<EmbeddingArgs>& kernel = backend(metal()).kernels().embedding.kernels.front();
  emulator::fail_command_buffers(emulator::kPageFaultError, 1);
  kernel.run(EmbeddingArgs{table_, bad_ids, out}, engine);
  kernel.run(EmbeddingArgs{table_, ids, out}, engine);
  EXPECT_THROW(engine.synchronize(), DeviceError);
  kernel.run(EmbeddingArgs{table_, ids, out}, engine);
  EXPECT_NO_THROW(engine.synchronize());
}
#endif

}  // namespace
}  // namespace candela::metal_tests
