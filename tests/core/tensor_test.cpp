#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/core/tensor.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>

#include "support/errors.h"

namespace candela {
namespace {

TEST(Tensor, ViewsShareMemory) {
  const Tensor x = Tensor::from_values<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor t = transpose(x, 0, 1);
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  fill_(slice(x, 1, 0, 1), 9);
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{9, 9, 2, 5, 3, 6}));
  EXPECT_EQ(t.storage(), x.storage());
}

TEST(Tensor, ReshapeOfAStridedViewCopiesOnlyWhenItMust) {
  const Tensor x = Tensor::from_values<float>({0, 1, 2, 3, 4, 5, 6, 7}, {2, 2, 2});
  EXPECT_EQ(reshape(x, {4, -1}).storage(), x.storage());
  const Tensor t = transpose(x, 0, 1);
  EXPECT_NE(reshape(t, {8}).storage(), x.storage());
  EXPECT_EQ(reshape(t, {8}).to_vector<float>(), (std::vector<float>{0, 1, 4, 5, 2, 3, 6, 7}));
  EXPECT_EQ(reshape(t, {2, 1, 2, 2}).storage(), x.storage());
}

TEST(Tensor, GradientsFlowThroughViewsBroadcastsAndProducts) {
  Tensor a = Tensor::from_values<float>({1, 2, 3, 4}, {2, 2});
  Tensor b = Tensor::from_values<float>({5, 6}, {2});
  a.set_requires_grad(true);
  b.set_requires_grad(true);
  backward(sum(matmul(mul(a, b), transpose(a, 0, 1))));
  // d/da sum_ij sum_k a_ik b_k a_jk = 2 b_k s_k with s_k the column sums; d/db = s_k^2.
  EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{40, 72, 40, 72}));
  EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{16, 36}));
}

TEST(Tensor, SecondBackwardIsRefused) {
  Tensor a = ones({2});
  a.set_requires_grad(true);
  const Tensor loss = sum(mul(a, a));
  backward(loss);
  EXPECT_THROW(backward(loss), InvalidArgument);
}

TEST(Tensor, ErrorsNameTheOpTheExpectationAndWhatCame) {
  try {
    matmul(ones({2, 3}), ones({4, 5}));
    FAIL() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "matmul: inner dimensions must match: a is [2, 3], b is [4, 5]");
  }
}

TEST(Tensor, IsFormattedByItsDtypeShapeAndDevice) {
  EXPECT_EQ(fmt::format("{}", ones({2, 3}, DType::BF16)), "bf16 [2, 3] on cpu");
  EXPECT_EQ(fmt::format("{}", Tensor()), "an undefined tensor");
  EXPECT_EQ(fmt::format("{:>8}", Device::metal(1)), " metal:1");
}

TEST(Allocator, ReusesFreedBlocksAndCounts) {
  Allocator& allocator = device_interface(Device::cpu()).allocator();
  const MemoryStats before = allocator.stats();
  { const Tensor x = Tensor::empty({1000, 1000}); }
  const MemoryStats middle = allocator.stats();
  { const Tensor x = Tensor::empty({1000, 1000}); }
  const MemoryStats after = allocator.stats();
  EXPECT_EQ(after.allocated, before.allocated);
  EXPECT_EQ(after.reserved, middle.reserved);
  EXPECT_EQ(after.cache_hits, middle.cache_hits + 1);
}

TEST(Allocator, PlanDeviceCountsWhatTheCpuWouldTake) {
  Allocator& plan = device_interface(Device::plan()).allocator();
  Allocator& cpu = device_interface(Device::cpu()).allocator();
  const auto work = [](Device device) {
    Tensor x = full({64, 64}, 0.5, DType::F32, device);
    x.set_requires_grad(true);
    backward(sum(exp(matmul(x, transpose(x, 0, 1)))));
  };
  cpu.trim();
  cpu.reset_peaks();
  plan.trim();
  plan.reset_peaks();
  const std::size_t cpu_base = cpu.stats().allocated;
  const std::size_t plan_base = plan.stats().allocated;
  work(Device::cpu());
  work(Device::plan());
  EXPECT_EQ(cpu.stats().peak_allocated - cpu_base, plan.stats().peak_allocated - plan_base);
}

TEST(DType, ErrorsListEveryName) {
  EXPECT_EQ(test::error_of<InvalidArgument>([] { parse_dtype("f8"); }),
            "dtype: expected f32, bf16, f16, f64, i64, i32 or u8; got \"f8\"");
}

TEST(DType, SixteenBitFloatsRoundToNearestEven) {
  EXPECT_EQ(Float16(1.0F).bits, 0x3c00);
  EXPECT_EQ(Float16(65504.0F).bits, 0x7bff);
  EXPECT_EQ(Float16(65520.0F).bits, 0x7c00);
  EXPECT_EQ(Float16(0x1p-24F).bits, 0x0001);
  EXPECT_EQ(Float16(0x1p-25F).bits, 0x0000);
  EXPECT_EQ(BFloat16(1.00390625F).bits, 0x3f80);
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto value = static_cast<float>(Float16::from_bits(static_cast<std::uint16_t>(bits)));
    if (value == value) {
      EXPECT_EQ(Float16(value).bits, bits);
    }
  }
}

}  // namespace
}  // namespace candela
