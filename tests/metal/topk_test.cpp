#include <algorithm>
#include <numeric>

#include <candela/autograd/backward.h>
#include <candela/ops/gather.h>
#include <candela/ops/topk.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

class Topk : public MetalTest {
 protected:
  /// Every implementation that takes it against sorting on the host.
  static void check(const Tensor& x, std::int64_t k) {
    const std::vector<double> numbers = values(x);
    const auto width = static_cast<std::size_t>(x.size(-1));
    const std::size_t rows = numbers.size() / width;
    int ran = 0;
    for (const std::string& name : gpu_names(&KernelTable::topk)) {
      const TopkResult result{full({static_cast<std::int64_t>(rows), k}, NAN, x.dtype(), metal()),
                              full({static_cast<std::int64_t>(rows), k}, -1, DType::I32, metal())};
      if (!run_named(&KernelTable::topk, name, TopkArgs{x, result.values, result.indices, k}).empty())
        continue;
      ++ran;
      const std::vector<double> found = values(result.values);
      const std::vector<double> places = values(result.indices);
      for (std::size_t row = 0; row < rows; ++row) {
        std::vector<std::size_t> order(width);
        std::iota(order.begin(), order.end(), std::size_t{0});
        const double* line = numbers.data() + row * width;
        std::stable_sort(order.begin(), order.end(), [line](std::size_t a, std::size_t b) {
          return line[a] > line[b] || (std::isnan(line[a]) && !std::isnan(line[b]));
        });
        for (std::size_t j = 0; j < static_cast<std::size_t>(k); ++j) {
          const std::size_t at = row * static_cast<std::size_t>(k) + j;
          EXPECT_EQ(places[at], static_cast<double>(order[j])) << name << " row " << row << " rank " << j;
          EXPECT_EQ(std::isnan(found[at]), std::isnan(line[order[j]])) << name;
          if (!std::isnan(line[order[j]])) EXPECT_EQ(found[at], line[order[j]]) << name;
        }
      }
    }
    EXPECT_GE(ran, 1) << "no implementation took k = " << k;
  }
};

TEST_F(Topk, SmallK) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) check(random_tensor({5, 100}, 1, dtype), 3);
}
TEST_F(Topk, SixteenIsTheMostForMps) {
  check(random_tensor({3, 50}, 1), 16);
}
TEST_F(Topk, MoreThanSixteen) {
  check(random_tensor({3, 300}, 1), 40);
}
TEST_F(Topk, AllOfThem) {
  check(random_tensor({2, 33}, 1), 33);
}
TEST_F(Topk, TiesTakeTheLowerIndexFirst) {
  check(Tensor::from_values<float>({1, 3, 3, 0, -0.0F, 0, 3, 2}, {1, 8}, metal()), 7);
}
TEST_F(Topk, NanCountsAsLargest) {
  check(Tensor::from_values<float>({1, NAN, 5, -INFINITY, INFINITY}, {1, 5}, metal()), 5);
  check(Tensor::from_values<float>({1, NAN, 5, -NAN, 2}, {1, 5}, metal()), 3);
  check(full({2, 7}, NAN, DType::F32, metal()), 4);
}
/// Rows of every kind side by side, wider than a threadgroup, in each dtype: without NaN, with some, with
/// more than k, of few different values, of minus infinity.
TEST_F(Topk, RowsWithNanAndEqualValuesBesideOthers) {
  constexpr std::size_t kWidth = 700;
  std::vector<double> numbers = values(random_tensor({6, kWidth}, 5));
  for (const std::size_t i : {3, 340, 699}) numbers[kWidth + i] = NAN;
  for (std::size_t i = 0; i < kWidth; i += 9) numbers[3 * kWidth + i] = NAN;
  for (std::size_t i = 0; i < kWidth; ++i) {
    numbers[4 * kWidth + i] = static_cast<double>(i * 7 % 11);
    numbers[5 * kWidth + i] = -INFINITY;
  }
  const Tensor rows = Tensor::from_values(numbers, {6, kWidth});
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    for (const std::int64_t k : {1, 5, 16}) check(to_device(cast(rows, dtype), metal()), k);
  }
}

TEST_F(Topk, WhoRuns) {
  const Tensor x = random_tensor({2, 64}, 1);
  const std::uint64_t own = runs_of(&KernelTable::topk, "native");
  topk(x, 17);
  EXPECT_EQ(runs_of(&KernelTable::topk, "native"), own + 1);
#if defined(CANDELA_MPS)
  const std::uint64_t mps = runs_of(&KernelTable::topk, "mps");
  topk(x, 16);
  EXPECT_EQ(runs_of(&KernelTable::topk, "mps"), mps + 1);
#endif
}

TEST_F(Topk, GradientsStayOnTheGpu) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    const auto gradient = [&](Device device) {
      const Tensor x = random_tensor({5, 40}, 1, dtype, device).set_requires_grad(true);
      backward(topk(x, 7).values, random_tensor({5, 7}, 2, dtype, device));
      return x.grad();
    };
    const Since since;
    const Tensor on_gpu = gradient(metal());
    EXPECT_EQ(since.now().host_runs, 0U);
    EXPECT_EQ(values(on_gpu), values(gradient(Device::cpu()))) << to_string(dtype);
  }
}

/// Indices that repeat, along every dimension, from operands that lie in any way.
TEST_F(Topk, GatheredGradientsAddUpInOrder) {
  const Tensor x = random_tensor({4, 6, 3}, 1);
  for (int dim = 0; dim < 3; ++dim) {
    Shape shape = x.shape();
    shape[dim] = 9;
    std::vector<std::int64_t> picks(static_cast<std::size_t>(numel(shape)));
    for (std::size_t i = 0; i < picks.size(); ++i)
      picks[i] = static_cast<std::int64_t>((i * 7) % static_cast<std::size_t>(x.size(dim)));
    for (const DType index_dtype : {DType::I32, DType::I64}) {
      const auto gradient = [&](Device device) {
        const Tensor leaf = to_device(x, device).detach().set_requires_grad(true);
        const Tensor index = to_device(cast(Tensor::from_values(picks, shape), index_dtype), device);
        const Tensor dy = random_tensor({shape[2], shape[1], shape[0]}, 2, DType::F32, device);
        backward(gather(leaf, dim, index), transpose(dy, 0, 2));
        return values(leaf.grad());
      };
      const std::uint64_t before = runs_of(&KernelTable::gather_grad, "native");
      EXPECT_EQ(gradient(metal()), gradient(Device::cpu())) << dim;
      EXPECT_EQ(runs_of(&KernelTable::gather_grad, "native"), before + 1);
    }
  }
}

}  // namespace
}  // namespace candela::metal_tests
