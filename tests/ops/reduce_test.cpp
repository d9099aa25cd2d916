#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(reduce, Forward, testing::ValuesIn(tested("reduce")), test_name);
INSTANTIATE_TEST_SUITE_P(reduce, Backward, testing::ValuesIn(tested("reduce")), test_name);
INSTANTIATE_TEST_SUITE_P(reduce, ReferenceGradient, testing::ValuesIn(with_reference_gradient("reduce")),
                         test_name);

}  // namespace candela::cases
