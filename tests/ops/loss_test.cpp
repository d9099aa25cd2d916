#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(loss, Forward, testing::ValuesIn(tested("loss")), test_name);
INSTANTIATE_TEST_SUITE_P(loss, Backward, testing::ValuesIn(tested("loss")), test_name);
INSTANTIATE_TEST_SUITE_P(loss, ReferenceGradient, testing::ValuesIn(with_reference_gradient("loss")),
                         test_name);

}  // namespace candela::cases
