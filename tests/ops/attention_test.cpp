#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(attention, Forward, testing::ValuesIn(tested("attention")), test_name);
INSTANTIATE_TEST_SUITE_P(attention, Backward, testing::ValuesIn(tested("attention")), test_name);
INSTANTIATE_TEST_SUITE_P(attention, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("attention")), test_name);

}  // namespace candela::cases
