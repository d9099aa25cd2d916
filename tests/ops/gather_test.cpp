#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(gather, Forward, testing::ValuesIn(tested("gather")), test_name);
INSTANTIATE_TEST_SUITE_P(gather, Backward, testing::ValuesIn(tested("gather")), test_name);
INSTANTIATE_TEST_SUITE_P(gather, ReferenceGradient, testing::ValuesIn(with_reference_gradient("gather")),
                         test_name);

}  // namespace candela::cases
