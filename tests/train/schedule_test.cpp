#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/train/schedule.h>

namespace candela {
namespace {

TEST(Schedule, WarmsUpLinearlyThenDecays) {
  ScheduleOptions options{Schedule::Cosine, 2.0, 0.0, 4, 12};
  EXPECT_DOUBLE_EQ(learning_rate(options, 1), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(options, 4), 2.0);
  EXPECT_NEAR(learning_rate(options, 8), 1.0, 1e-12);
  EXPECT_NEAR(learning_rate(options, 12), 0.0, 1e-12);
  options.kind = Schedule::Linear;
  EXPECT_DOUBLE_EQ(learning_rate(options, 6), 1.5);
  options.floor = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate(options, 12), 1.0);
  options.kind = Schedule::Constant;
  EXPECT_DOUBLE_EQ(learning_rate(options, 12), 2.0);
}

TEST(Schedule, StaysDefinedBeyondTheLastStepAndRefusesStepZero) {
  const ScheduleOptions options{Schedule::Linear, 1.0, 0.1, 0, 10};
  EXPECT_DOUBLE_EQ(learning_rate(options, 50), 0.1);
  EXPECT_THROW(learning_rate(options, 0), InvalidArgument);
  EXPECT_THROW(parse_schedule("poly"), InvalidArgument);
}

}  // namespace
}  // namespace candela
