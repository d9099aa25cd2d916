#include <cmath>
#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/models/causal_head.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>

#include "support/golden.h"

namespace candela {
namespace {

using test::relative_error;
using test::values_of;

constexpr std::int64_t kRows = 7;
constexpr std::int64_t kWidth = 16;
constexpr std::int64_t kClasses = 50;

class CausalHeadTest : public testing::Test {
 protected:
  CausalHeadTest()
      : layer_{"lm_head", normal({kClasses, kWidth}, generator_, 0, 0.5), {}, {}},
        hidden_(normal({kRows, kWidth}, generator_, 0, 1)),
        targets_(Tensor::from_values(std::vector<std::int32_t>{3, 49, 0, 7, kIgnored, 12, 12}, {kRows})) {}

  static constexpr std::int32_t kIgnored = static_cast<std::int32_t>(kIgnoreIndex);
  Generator generator_{5};
  Linear layer_;
  Tensor hidden_, targets_;
};

TEST_F(CausalHeadTest, LogitsAreMultipliedThenCapped) {
  const std::vector<double> plain = values_of(CausalHead(layer_, {}).logits(hidden_));
  const std::vector<double> capped = values_of(CausalHead(layer_, {0.5, 3}).logits(hidden_));
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(capped[i], 3 * std::tanh(plain[i] / 6), 1e-5);
}

TEST_F(CausalHeadTest, LossIsThatOfTheLogits) {
  for (const CausalHead::Options& options : {CausalHead::Options{}, CausalHead::Options{0.5, 0},
                                             CausalHead::Options{1, 3}, CausalHead::Options{2, 3}}) {
    const CausalHead head(layer_, options);
    const auto loss_and_gradient = [&](auto loss_of) {
      Tensor hidden = clone(hidden_);
      hidden.set_requires_grad(true);
      const Tensor loss = loss_of(hidden);
      backward(loss);
      std::vector<double> result = values_of(hidden.grad());
      result.push_back(loss.item());
      return result;
    };
    const auto got = loss_and_gradient([&](const Tensor& x) { return head.loss(x, targets_); });
    const auto wanted = loss_and_gradient(
        [&](const Tensor& x) { return sum(cross_entropy(head.logits(x), targets_), {0}, true); });
    EXPECT_LE(relative_error(got, wanted), 1e-5) << options.multiplier << " " << options.cap;
  }
}

/// What the head's own gradient would take, [V, D] in f32, is never there.
TEST(CausalHeadPlan, AnAdaptedHeadHasNoGradientOfItsFrozenWeight) {
  const Device plan = Device::plan();
  constexpr std::int64_t kVocabulary = 40000;
  constexpr std::int64_t kHidden = 256;
  Linear layer{"lm_head", Tensor::empty({kVocabulary, kHidden}, DType::F32, plan), {}, {}};
  layer.adapter.a = Tensor::empty({2, kHidden}, DType::F32, plan).set_requires_grad(true);
  layer.adapter.b = Tensor::empty({kVocabulary, 2}, DType::F32, plan).set_requires_grad(true);
  const Tensor hidden = Tensor::empty({4, kHidden}, DType::F32, plan);
  const Tensor targets = Tensor::empty({4}, DType::I64, plan);
  Allocator& allocator = device_interface(plan).allocator();
  const std::size_t before = allocator.stats().allocated;
  allocator.reset_peaks();
  backward(CausalHead(layer, {}).loss(hidden, targets));
  EXPECT_TRUE(layer.adapter.b.grad().defined());
  EXPECT_LT(allocator.stats().peak_allocated - before,
            sizeof(float) * static_cast<std::size_t>(kVocabulary * kHidden) / 2);
}

}  // namespace
}  // namespace candela
