#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(softmax, Forward, testing::ValuesIn(tested("softmax")), test_name);
INSTANTIATE_TEST_SUITE_P(softmax, Backward, testing::ValuesIn(tested("softmax")), test_name);
INSTANTIATE_TEST_SUITE_P(softmax, ReferenceGradient, testing::ValuesIn(with_reference_gradient("softmax")),
                         test_name);

}  // namespace candela::cases
