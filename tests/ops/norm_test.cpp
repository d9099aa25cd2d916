#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(norm, Forward, testing::ValuesIn(tested("norm")), test_name);
INSTANTIATE_TEST_SUITE_P(norm, Backward, testing::ValuesIn(tested("norm")), test_name);
INSTANTIATE_TEST_SUITE_P(norm, ReferenceGradient, testing::ValuesIn(with_reference_gradient("norm")),
                         test_name);

}  // namespace candela::cases
