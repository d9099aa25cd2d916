#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/optimizer.h>

#include "ops/op_cases.h"
#include "support/errors.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(optimizer, Forward, testing::ValuesIn(tested("optimizer")), test_name);
INSTANTIATE_TEST_SUITE_P(optimizer, Backward, testing::ValuesIn(tested("optimizer")), test_name);
INSTANTIATE_TEST_SUITE_P(optimizer, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("optimizer")), test_name);

TEST(Adamw, RefusesOptionsThatMakeNoStep) {
  const Tensor x = ones({3});
  const auto error_of = [&](const AdamwOptions& options, std::int64_t step = 1) -> std::string {
    try {
      adamw_step(x, ones({3}), zeros({3}), zeros({3}), options, step);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(error_of({.beta1 = 1}), "adamw_step: beta1 must be in [0, 1); got 1");
  EXPECT_EQ(error_of({.beta1 = -0.1}), "adamw_step: beta1 must be in [0, 1); got -0.1");
  EXPECT_EQ(error_of({.beta2 = 1}), "adamw_step: beta2 must be in [0, 1); got 1");
  EXPECT_EQ(error_of({.beta2 = nan}), "adamw_step: beta2 must be in [0, 1); got nan");
  EXPECT_EQ(error_of({.eps = 0}), "adamw_step: eps must be above 0; got 0");
  EXPECT_EQ(error_of({.lr = -1}), "adamw_step: lr must be finite and not negative; got -1");
  EXPECT_EQ(error_of({.lr = nan}), "adamw_step: lr must be finite and not negative; got nan");
  EXPECT_EQ(error_of({.weight_decay = -1}),
            "adamw_step: weight_decay must be finite and not negative; got -1");
  EXPECT_EQ(error_of({}, 0), "adamw_step: step counts from 1; got 0");
  EXPECT_EQ(error_of({.lr = 0, .beta1 = 0, .beta2 = 0, .weight_decay = 0}), "no error");
}

/// f64 has no kernel: the composed reference steps in, here against the formulas of args/optimizer.h on the
/// host.
TEST(Adamw, ParametersInF64TakeTheComposedWay) {
  constexpr AdamwOptions kOptions{.lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1};
  std::vector<double> expected = {0.5, -1, 2};
  const std::vector<double> gradient = {0.25, -0.5, 0.125};
  const Tensor param = Tensor::from_values(expected, {3});
  const Tensor m = zeros({3});
  const Tensor v = zeros({3});
  std::vector<double> first(3);
  std::vector<double> second(3);
  for (int step = 1; step <= 3; ++step) {
    adamw_step(param, Tensor::from_values(gradient, {3}), m, v, kOptions, step, 0.5);
    for (std::size_t i = 0; i < 3; ++i) {
      const double g = 0.5 * gradient[i];
      first[i] = kOptions.beta1 * first[i] + (1 - kOptions.beta1) * g;
      second[i] = kOptions.beta2 * second[i] + (1 - kOptions.beta2) * g * g;
      const double m_hat = first[i] / (1 - std::pow(kOptions.beta1, step));
      const double v_hat = second[i] / (1 - std::pow(kOptions.beta2, step));
      expected[i] -=
          kOptions.lr * (kOptions.weight_decay * expected[i] + m_hat / (std::sqrt(v_hat) + kOptions.eps));
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(param.to_vector<double>()[i], expected[i], 1e-8);  // m and v are f32 between the steps
    EXPECT_NEAR(m.to_vector<float>()[i], first[i], 1e-7 * std::abs(first[i]));
    EXPECT_NEAR(v.to_vector<float>()[i], second[i], 1e-6 * second[i]);
  }
}

TEST(Adamw, RefusesAParameterThatAnOpComputed) {
  Tensor x = ones({3});
  x.set_requires_grad(true);
  EXPECT_NO_THROW(adamw_step(x, ones({3}), zeros({3}), zeros({3}), {}, 1));
  EXPECT_THROW(adamw_step(exp(x), ones({3}), zeros({3}), zeros({3}), {}, 1), Unsupported);
}

TEST(Adamw, ErrorsNameTheOp) {
  const Tensor whole = arange(3);
  EXPECT_EQ(
      test::error_of<InvalidArgument>([&] { adamw_step(whole, ones({3}), zeros({3}), zeros({3}), {}, 1); }),
      "adamw_step: param must be a floating point tensor; got i32 [3] on cpu");
}

TEST(GlobalNorm, CountsEveryElementOfEveryTensor) {
  for (const Device device : available_devices()) {
    const std::vector<Tensor> tensors = {full({2, 2}, 1, DType::F32, device), Tensor(),
                                         full({3}, 2, DType::BF16, device), zeros({0}, DType::F32, device),
                                         transpose(full({1, 9}, 1, DType::F16, device), 0, 1)};
    EXPECT_DOUBLE_EQ(global_norm(tensors), 5) << to_string(device);
  }
  EXPECT_EQ(global_norm({}), 0);
}

}  // namespace candela::cases
