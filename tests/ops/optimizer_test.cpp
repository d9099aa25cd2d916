#include <limits>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/optimizer.h>

#include "ops/op_cases.h"

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
  EXPECT_EQ(error_of({.beta1 = 1}), "adamw: beta1 must be in [0, 1); got 1");
  EXPECT_EQ(error_of({.beta1 = -0.1}), "adamw: beta1 must be in [0, 1); got -0.1");
  EXPECT_EQ(error_of({.beta2 = 1}), "adamw: beta2 must be in [0, 1); got 1");
  EXPECT_EQ(error_of({.beta2 = nan}), "adamw: beta2 must be in [0, 1); got nan");
  EXPECT_EQ(error_of({.eps = 0}), "adamw: eps must be above 0; got 0");
  EXPECT_EQ(error_of({.lr = -1}), "adamw: lr must be finite and not negative; got -1");
  EXPECT_EQ(error_of({.lr = nan}), "adamw: lr must be finite and not negative; got nan");
  EXPECT_EQ(error_of({.weight_decay = -1}), "adamw: weight_decay must be finite and not negative; got -1");
  EXPECT_EQ(error_of({}, 0), "adamw: step counts from 1; got 0");
  EXPECT_EQ(error_of({.lr = 0, .beta1 = 0, .beta2 = 0, .weight_decay = 0}), "no error");
}

TEST(Adamw, RefusesAParameterThatAnOpComputed) {
  Tensor x = ones({3});
  x.set_requires_grad(true);
  EXPECT_NO_THROW(adamw_step(x, ones({3}), zeros({3}), zeros({3}), {}, 1));
  EXPECT_THROW(adamw_step(exp(x), ones({3}), zeros({3}), zeros({3}), {}, 1), Unsupported);
}

}  // namespace candela::cases
