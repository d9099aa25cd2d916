#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(rope, Forward, testing::ValuesIn(tested("rope")), test_name);
INSTANTIATE_TEST_SUITE_P(rope, Backward, testing::ValuesIn(tested("rope")), test_name);
INSTANTIATE_TEST_SUITE_P(rope, ReferenceGradient, testing::ValuesIn(with_reference_gradient("rope")),
                         test_name);

}  // namespace candela::cases
