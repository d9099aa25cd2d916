#include <algorithm>
#include <cmath>
#include <string>

#include <candela/autograd/backward.h>
#include <candela/ops/copy.h>
#include <candela/ops/softmax.h>

#include "ops/op_cases.h"

namespace candela {
namespace {

/// Adding the same number again and again rounds the same way each time: in a long sum in f32 alone, the
/// errors do not cancel as those of random numbers do, and are 1e-5 to 2e-4 of the sum here.
class EqualAddends : public testing::TestWithParam<Shape> {};

/// The largest difference of any element from `expected`, of the latter.
double largest_error(const Tensor& x, double expected) {
  double worst = 0;
  for (const float value : x.to_vector<float>()) worst = std::max(worst, std::abs(value - expected));
  return worst / std::abs(expected);
}

TEST_P(EqualAddends, SoftmaxStaysWithinTheLimit) {
  // One 0 and else -ln 10, along the longer dimension: e^x is 1 and 0.1.
  const Shape shape = GetParam();
  const int dim = shape[0] > shape[1] ? 0 : 1;
  const auto small = static_cast<float>(-std::log(10.0));
  Tensor x = full(shape, small, DType::F32);
  copy_(slice(x, dim, 0, 1), full(slice(x, dim, 0, 1).shape(), 0, DType::F32));
  const double e = std::exp(static_cast<double>(small));
  const double total = 1 + e * static_cast<double>(shape[dim] - 1);
  const Tensor y = softmax(x, dim);
  EXPECT_LT(largest_error(slice(y, dim, 1, shape[dim]), e / total), 1e-5);
  EXPECT_LT(largest_error(slice(log_softmax(x, dim), dim, 0, 1), -std::log(total)), 1e-5);
}

TEST_P(EqualAddends, GradientsStayWithinTheLimit) {
  const Shape shape = GetParam();
  const int dim = shape[0] > shape[1] ? 0 : 1;
  const auto length = static_cast<double>(shape[dim]);
  // All y are 1 / L, and dy is 0 in the first half and 0.1 in the second: there dx = -sum(dy) / L for the
  // logarithm, and 1 / L of that without it.
  Tensor x = full(shape, 0, DType::F32).set_requires_grad(true);
  Tensor seed = full(shape, 0.1F, DType::F32);
  const Tensor half = slice(seed, dim, 0, shape[dim] / 2);
  copy_(half, full(half.shape(), 0, DType::F32));
  const double mean = static_cast<double>(0.1F) * static_cast<double>(shape[dim] - shape[dim] / 2) / length;
  backward(log_softmax(x, dim), seed);
  EXPECT_LT(largest_error(slice(x.grad(), dim, 0, shape[dim] / 2), -mean), 1e-5);
  x.set_grad(Tensor());
  backward(softmax(x, dim), seed);
  EXPECT_LT(largest_error(slice(x.grad(), dim, 0, shape[dim] / 2), -mean / length), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(softmax, EqualAddends,
                         testing::Values(Shape{4096, 32}, Shape{20000, 32}, Shape{2, 151936}),
                         [](const testing::TestParamInfo<Shape>& tested) {
                           return std::to_string(tested.param[0]) + "x" + std::to_string(tested.param[1]);
                         });

}  // namespace
}  // namespace candela

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(softmax, Forward, testing::ValuesIn(tested("softmax")), test_name);
INSTANTIATE_TEST_SUITE_P(softmax, Backward, testing::ValuesIn(tested("softmax")), test_name);
INSTANTIATE_TEST_SUITE_P(softmax, ReferenceGradient, testing::ValuesIn(with_reference_gradient("softmax")),
                         test_name);

}  // namespace candela::cases
