#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(copy, Forward, testing::ValuesIn(tested("copy")), test_name);
INSTANTIATE_TEST_SUITE_P(copy, Backward, testing::ValuesIn(tested("copy")), test_name);
INSTANTIATE_TEST_SUITE_P(copy, ReferenceGradient, testing::ValuesIn(with_reference_gradient("copy")),
                         test_name);

}  // namespace candela::cases
