#include <limits>

#include <candela/autograd/backward.h>
#include <candela/ops/copy.h>
#include <candela/ops/reduce.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(reduce, Forward, testing::ValuesIn(tested("reduce")), test_name);
INSTANTIATE_TEST_SUITE_P(reduce, Backward, testing::ValuesIn(tested("reduce")), test_name);
INSTANTIATE_TEST_SUITE_P(reduce, ReferenceGradient, testing::ValuesIn(with_reference_gradient("reduce")),
                         test_name);

TEST(Extremes, OnlyTheLargestGetAGradient) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  using Values = std::vector<float>;
  for (const Device device : available_devices()) {
    for (const DType dtype : {DType::F32, DType::BF16, DType::F16, DType::F64}) {
      const auto gradient = [&](const Values& values, const Values& dy) {
        const auto rows = static_cast<std::int64_t>(dy.size());
        Tensor x = to_device(cast(Tensor::from_values(values, {rows, 3}), dtype), device);
        x.set_requires_grad(true);
        backward(max(x, {-1}), to_device(cast(Tensor::from_values(dy, {rows}), dtype), device));
        return cast(x.grad(), DType::F32).to_vector<float>();
      };
      EXPECT_EQ(gradient({1, 2, 0, 5, 4, 5}, {infinity, -infinity}),
                (Values{0, infinity, 0, -infinity, 0, -infinity}))
          << to_string(dtype);
      EXPECT_EQ(gradient({nan, 2, nan, infinity, 1, -infinity}, {2, 3}), (Values{1, 0, 1, 3, 0, 0}))
          << to_string(dtype);
    }
  }
}

/// The sum of every few of them is some thousand, and f32 would round it to more than what is left in the
/// end.
TEST(Sums, HalvesThatCancelLeaveTheRest) {
  for (const std::int64_t half : {40, 5000, 100000}) {
    std::vector<float> values(static_cast<std::size_t>(2 * half + 1), 0.125F);
    for (std::int64_t i = 0; i < half; ++i) {
      const float value = 900 + 200 * static_cast<float>(i) / static_cast<float>(half);
      values[static_cast<std::size_t>(i)] = value;
      values[static_cast<std::size_t>(half + i)] = -value;
    }
    EXPECT_EQ(sum(Tensor::from_values(values, {2 * half + 1})).item(), 0.125) << half;
  }
}

}  // namespace candela::cases
