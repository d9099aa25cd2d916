#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(matmul, Forward, testing::ValuesIn(tested("matmul")), test_name);
INSTANTIATE_TEST_SUITE_P(matmul, Backward, testing::ValuesIn(tested("matmul")), test_name);
INSTANTIATE_TEST_SUITE_P(matmul, ReferenceGradient, testing::ValuesIn(with_reference_gradient("matmul")),
                         test_name);

}  // namespace candela::cases
