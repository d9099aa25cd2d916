#include <limits>

#include <candela/autograd/backward.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(elementwise, Forward, testing::ValuesIn(tested("elementwise")), test_name);
INSTANTIATE_TEST_SUITE_P(elementwise, Backward, testing::ValuesIn(tested("elementwise")), test_name);
INSTANTIATE_TEST_SUITE_P(elementwise, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("elementwise")), test_name);

/// The operand that was not taken gets nothing, however large the gradient is.
TEST(Extremes, AnInfiniteGradientGoesToTheOneThatWasTaken) {
  const float infinity = std::numeric_limits<float>::infinity();
  using Values = std::vector<float>;
  for (const Device device : available_devices()) {
    for (const DType dtype : {DType::F32, DType::BF16, DType::F16, DType::F64}) {
      const auto leaf = [&](const Values& values) {
        Tensor x = to_device(cast(Tensor::from_values(values, {3}), dtype), device);
        x.set_requires_grad(true);
        return x;
      };
      const auto gradient = [](const Tensor& x) { return cast(x.grad(), DType::F32).to_vector<float>(); };
      const Tensor dy =
          to_device(cast(Tensor::from_values(Values{infinity, -infinity, infinity}, {3}), dtype), device);
      const Tensor a = leaf({1, 2, 3});
      const Tensor b = leaf({2, 1, 3});
      backward(maximum(a, b), dy);
      EXPECT_EQ(gradient(a), (Values{0, -infinity, infinity})) << to_string(dtype);
      EXPECT_EQ(gradient(b), (Values{infinity, 0, 0})) << to_string(dtype);
      const Tensor c = leaf({1, 2, 3});
      const Tensor d = leaf({2, 1, 3});
      backward(minimum(c, d), dy);
      EXPECT_EQ(gradient(c), (Values{infinity, 0, infinity})) << to_string(dtype);
      EXPECT_EQ(gradient(d), (Values{0, -infinity, 0})) << to_string(dtype);
    }
  }
}

}  // namespace candela::cases
