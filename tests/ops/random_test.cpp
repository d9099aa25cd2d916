#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(random, Forward, testing::ValuesIn(tested("random")), test_name);
INSTANTIATE_TEST_SUITE_P(random, Backward, testing::ValuesIn(tested("random")), test_name);
INSTANTIATE_TEST_SUITE_P(random, ReferenceGradient, testing::ValuesIn(with_reference_gradient("random")),
                         test_name);

}  // namespace candela::cases
