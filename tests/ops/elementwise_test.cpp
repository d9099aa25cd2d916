#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(elementwise, Forward, testing::ValuesIn(tested("elementwise")), test_name);
INSTANTIATE_TEST_SUITE_P(elementwise, Backward, testing::ValuesIn(tested("elementwise")), test_name);
INSTANTIATE_TEST_SUITE_P(elementwise, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("elementwise")), test_name);

}  // namespace candela::cases
