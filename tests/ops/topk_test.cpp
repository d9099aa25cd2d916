#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(topk, Forward, testing::ValuesIn(tested("topk")), test_name);
INSTANTIATE_TEST_SUITE_P(topk, Backward, testing::ValuesIn(tested("topk")), test_name);
INSTANTIATE_TEST_SUITE_P(topk, ReferenceGradient, testing::ValuesIn(with_reference_gradient("topk")),
                         test_name);

}  // namespace candela::cases
