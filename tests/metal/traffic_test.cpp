// What shaders read, counted by the stand-in: a GPU's time goes into memory, and these are its bytes.
#if defined(CANDELA_EMULATED_METAL)

#include <array>
#include <kernel.h>

#include <candela/core/device.h>
#include <candela/ops/attention.h>
#include <candela/ops/matmul.h>

#include "backend/metal/launch.h"
#include "metal/support.h"

namespace candela::metal_tests {
namespace {

class Traffic : public MetalTest {
 protected:
  void SetUp() override {
    MetalTest::SetUp();
    device_interface(metal()).synchronize();
    emulator::Options options;
    options.traffic = true;
    emulator::set_options(options);
  }
  void TearDown() override {
    emulator::set_options({});
    MetalTest::TearDown();
  }
  static emulator::Traffic of(const std::string& kernel) {
    device_interface(metal()).synchronize();
    return emulator::take_traffic(kernel);
  }
};

TEST_F(Traffic, FewRowsReadTheWeightOnceInWideLoads) {
  constexpr std::int64_t kInputs = 512;
  constexpr std::int64_t kOutputs = 1024;
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    for (const bool by_columns : {true, false}) {
      for (const std::int64_t rows : {1, 2, 8}) {
        const Tensor x = random_tensor({rows, kInputs}, 1, dtype);
        const Tensor weight = by_columns ? transpose(random_tensor({kOutputs, kInputs}, 2, dtype), 0, 1)
                                         : random_tensor({kInputs, kOutputs}, 2, dtype);
        const std::string kernel = std::string(by_columns ? "gemv_columns" : "gemv_rows") +
                                   metal::suffix(dtype) + metal::suffix(dtype) + metal::suffix(dtype);
        of(kernel);
        const Tensor y = zeros({rows, kOutputs}, dtype, metal());
        ASSERT_EQ(run_named(&KernelTable::matmul, "gemv", MatmulArgs{x, weight, y, {}, 1, 0}), "");
        const emulator::Traffic traffic = of(kernel);
        const std::uint64_t bytes = kInputs * kOutputs * size_of(dtype);
        EXPECT_EQ(traffic.buffers[1].bytes, bytes) << kernel << ", " << rows << " rows";
        EXPECT_EQ(traffic.buffers[1].accesses * 4, static_cast<std::uint64_t>(kInputs * kOutputs))
            << "four elements a load";
        if (rows > 1) continue;
        EXPECT_LE(static_cast<double>(traffic.buffers[0].bytes + traffic.buffers[1].bytes),
                  1.05 * static_cast<double>(bytes))
            << kernel;
      }
    }
  }
}

/// Blocks of 32 queries and 32 keys: what the mask excludes is not read.
TEST_F(Traffic, AttentionReadsNoBlockThatTheMaskExcludes) {
  constexpr std::int64_t kTokens = 256;
  constexpr std::int64_t kSize = 32;
  const Tensor x = random_tensor({1, kTokens, 1, kSize}, 1);
  const auto blocks_read = [&](const AttentionOptions& options) {
    of("attention_f32_32");
    attention(x, x, x, options);
    const emulator::Traffic traffic = of("attention_f32_32");
    EXPECT_EQ(traffic.buffers[1].bytes, traffic.buffers[2].bytes) << "keys and values";
    EXPECT_EQ(traffic.buffers[0].bytes, kTokens * kSize * sizeof(float)) << "queries, once";
    return traffic.buffers[1].bytes / (32 * kSize * sizeof(float));
  };
  EXPECT_EQ(blocks_read({.causal = false}), 64U);
  EXPECT_EQ(blocks_read({}), 36U) << "1 + 2 + ... + 8";
  EXPECT_EQ(blocks_read({.window = 33}), 15U) << "a block of queries sees its own keys and the block before";
  AttentionOptions packed;
  packed.cu_seqlens = Tensor::from_values(std::vector<std::int32_t>{0, 64, 128, 256}, {4}, metal());
  EXPECT_EQ(blocks_read(packed), 16U) << "1 + 2 twice, and 1 + 2 + 3 + 4";
}

TEST_F(Traffic, MatricesOfThreadgroupMemoryMeetNoBankTwice) {
  const auto expect_none = [](const std::string& kernel) {
    const emulator::Traffic traffic = of(kernel);
    EXPECT_GT(traffic.matrix_loads, 0U) << kernel;
    EXPECT_EQ(traffic.bank_conflicts, 0U) << kernel;
  };
  const Tensor a = random_tensor({70, 100}, 1);
  const Tensor out = zeros({70, 70}, DType::F32, metal());
  ASSERT_EQ(run_named(&KernelTable::matmul, "simdgroup", MatmulArgs{a, transpose(a, 0, 1), out, {}, 1, 0}),
            "");
  expect_none("matmul_f32_f32_f32");
  for (const std::int64_t size : {32, 64, 128, 256, 320}) {
    const Tensor x = random_tensor({1, 40, 1, size}, 1);
    const Tensor top = zeros({1, 1, 40}, DType::F32, metal());
    const Tensor total = zeros({1, 1, 40}, DType::F32, metal());
    const auto like_x = [&] { return zeros(x.shape(), DType::F32, metal()); };
    const Tensor attended = like_x();
    const AttentionArgs args{x, x, x, attended, top, total, {}, {}, 0.1, true};
    ASSERT_EQ(run_named(&KernelTable::attention, "flash", args), "");
    expect_none(fmt::format("attention_f32_{}", size));
    ASSERT_EQ(run_named(&KernelTable::attention_grad, "flash",
                        AttentionGradArgs{args, x, like_x(), like_x(), like_x()}),
              "");
    expect_none(fmt::format("attention_grad_queries_f32_{}", size));
    expect_none(fmt::format("attention_grad_keys_f32_{}", size));
  }
}

}  // namespace
}  // namespace candela::metal_tests

#endif
