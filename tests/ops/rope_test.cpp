#include <candela/core/error.h>
#include <candela/ops/rope.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(rope, Forward, testing::ValuesIn(tested("rope")), test_name);
INSTANTIATE_TEST_SUITE_P(rope, Backward, testing::ValuesIn(tested("rope")), test_name);
INSTANTIATE_TEST_SUITE_P(rope, ReferenceGradient, testing::ValuesIn(with_reference_gradient("rope")),
                         test_name);

TEST(Rope, RefusesPositionsBeyondTheTable) {
  RopeConfig config;
  config.rotary_dim = 4;
  const RopeTable table = rope_table(config, 8);
  const Tensor x = Tensor::from_values(std::vector<float>(8, 1.0F), {1, 2, 1, 4});
  for (const std::int32_t position : {8, -1}) {
    EXPECT_THROW(rope(x, table, Tensor::from_values(std::vector<std::int32_t>{0, position}, {2})),
                 InvalidArgument);
  }
}

}  // namespace candela::cases
