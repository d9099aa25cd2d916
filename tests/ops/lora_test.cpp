#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(lora, Forward, testing::ValuesIn(tested("lora")), test_name);
INSTANTIATE_TEST_SUITE_P(lora, Backward, testing::ValuesIn(tested("lora")), test_name);
INSTANTIATE_TEST_SUITE_P(lora, ReferenceGradient, testing::ValuesIn(with_reference_gradient("lora")),
                         test_name);

}  // namespace candela::cases
