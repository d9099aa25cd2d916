#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/ops/loss.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(loss, Forward, testing::ValuesIn(tested("loss")), test_name);
INSTANTIATE_TEST_SUITE_P(loss, Backward, testing::ValuesIn(tested("loss")), test_name);
INSTANTIATE_TEST_SUITE_P(loss, ReferenceGradient, testing::ValuesIn(with_reference_gradient("loss")),
                         test_name);

TEST(Loss, RefusesTargetsBeyondTheClasses) {
  const Tensor logits = Tensor::from_values(std::vector<float>(6, 0.5F), {2, 3});
  for (const std::int64_t target : {std::int64_t{3}, std::int64_t{-1}}) {
    const Tensor targets = Tensor::from_values(std::vector<std::int64_t>{0, target}, {2});
    EXPECT_THROW(cross_entropy(logits, targets), InvalidArgument);
    EXPECT_THROW(linear_cross_entropy(logits, logits, targets), InvalidArgument);
  }
}

TEST(Loss, WithoutClassesOnlyIgnoredTargetsFit) {
  const Tensor logits = Tensor::empty({2, 0});
  const Tensor ignored = Tensor::from_values(std::vector<std::int64_t>{kIgnoreIndex, kIgnoreIndex}, {2});
  const Tensor some = Tensor::from_values(std::vector<std::int64_t>{kIgnoreIndex, 0}, {2});
  EXPECT_EQ(cross_entropy(logits, ignored).to_vector<float>(), (std::vector<float>{0, 0}));
  EXPECT_THROW(cross_entropy(logits, some), InvalidArgument);
  const Tensor x = Tensor::from_values(std::vector<float>(6, 1.0F), {2, 3});
  EXPECT_EQ(linear_cross_entropy(x, Tensor::empty({0, 3}), ignored).item(), 0);
  EXPECT_THROW(linear_cross_entropy(x, Tensor::empty({0, 3}), some), InvalidArgument);
}

TEST(Loss, WithoutWidthEveryClassIsAsLikely) {
  const Tensor targets = Tensor::from_values(std::vector<std::int64_t>{1, kIgnoreIndex, 4}, {3});
  const Tensor loss = linear_cross_entropy(Tensor::empty({3, 0}), Tensor::empty({7, 0}), targets);
  EXPECT_NEAR(loss.item(), 2 * std::log(7.0), 1e-6);
}

TEST(Loss, IgnoredRowsAreZeroEvenWhereLogitsAreNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor logits = Tensor::from_values(std::vector<float>{nan, 1, 2, 0, 0, 0}, {2, 3});
  const Tensor targets = Tensor::from_values(std::vector<std::int64_t>{kIgnoreIndex, 1}, {2});
  const std::vector<float> loss = cross_entropy(logits, targets).to_vector<float>();
  EXPECT_EQ(loss[0], 0.0F);
  EXPECT_NEAR(loss[1], std::log(3.0), 1e-6);
}

}  // namespace candela::cases
