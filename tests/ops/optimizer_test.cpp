#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(optimizer, Forward, testing::ValuesIn(tested("optimizer")), test_name);
INSTANTIATE_TEST_SUITE_P(optimizer, Backward, testing::ValuesIn(tested("optimizer")), test_name);
INSTANTIATE_TEST_SUITE_P(optimizer, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("optimizer")), test_name);

}  // namespace candela::cases
