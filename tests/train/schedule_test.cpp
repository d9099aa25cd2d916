#include <gtest/gtest.h>
#include <vector>

#include <candela/core/error.h>
#include <candela/train/schedule.h>

namespace candela {
namespace {

/// What transformers 5.24 gives for a peak of 2: get_constant_, get_linear_ and
/// get_cosine_schedule_with_warmup, and get_cosine_with_min_lr_schedule_with_warmup(min_lr_rate=0.1).
TEST(Schedule, IsThatOfTransformers) {
  struct Case {
    Schedule kind;
    double floor;
    std::int64_t warmup;
    std::vector<double> rates;
  };
  const std::vector<Case> cases = {
      {Schedule::Linear,
       0,
       3,
       {0.0, 0.6666666666666666, 1.3333333333333333, 2.0, 1.7142857142857142, 1.4285714285714286,
        1.1428571428571428, 0.8571428571428571, 0.5714285714285714, 0.2857142857142857}},
      {Schedule::Cosine,
       0,
       3,
       {0.0, 0.6666666666666666, 1.3333333333333333, 2.0, 1.900968867902419, 1.6234898018587336,
        1.2225209339563143, 0.7774790660436857, 0.3765101981412665, 0.09903113209758097}},
      {Schedule::Cosine,
       0.1,
       3,
       {0.0, 0.6666666666666666, 1.3333333333333333, 2.0, 1.910871981112177, 1.6611408216728603,
        1.3002688405606828, 0.8997311594393171, 0.5388591783271399, 0.2891280188878229}},
      {Schedule::Constant,
       0,
       3,
       {0.0, 0.6666666666666666, 1.3333333333333333, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0}},
      {Schedule::Linear, 0, 0, {2.0, 1.5, 1.0, 0.5}},
      {Schedule::Cosine, 0, 0, {2.0, 1.7071067811865475, 1.0, 0.29289321881345254}},
      {Schedule::Linear, 0, 0, {2.0}},
      {Schedule::Cosine, 0, 0, {2.0}},
  };
  for (const Case& c : cases) {
    const ScheduleOptions options{c.kind, 2.0, c.floor, c.warmup, static_cast<std::int64_t>(c.rates.size())};
    for (std::size_t i = 0; i < c.rates.size(); ++i) {
      EXPECT_NEAR(learning_rate(options, static_cast<std::int64_t>(i) + 1), c.rates[i], 1e-14)
          << to_string(c.kind) << " floor " << c.floor << " warm-up " << c.warmup << " step " << i + 1;
    }
  }
}

TEST(Schedule, StaysDefinedBeyondTheLastStepAndRefusesStepZero) {
  const ScheduleOptions options{Schedule::Linear, 1.0, 0.1, 0, 10};
  EXPECT_DOUBLE_EQ(learning_rate(options, 11), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(options, 50), 0.1);
  EXPECT_THROW(learning_rate(options, 0), InvalidArgument);
  EXPECT_THROW(parse_schedule("poly"), InvalidArgument);
}

}  // namespace
}  // namespace candela
