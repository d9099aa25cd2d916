#include <candela/ops/copy.h>
#include <candela/ops/topk.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(topk, Forward, testing::ValuesIn(tested("topk")), test_name);
INSTANTIATE_TEST_SUITE_P(topk, Backward, testing::ValuesIn(tested("topk")), test_name);
INSTANTIATE_TEST_SUITE_P(topk, ReferenceGradient, testing::ValuesIn(with_reference_gradient("topk")),
                         test_name);

/// f64 has no kernel: the composed reference sorts.
TEST(Topk, RowsInF64TakeTheComposedWay) {
  const Tensor x = Tensor::from_values(std::vector<double>{3, 1, 3, 5, -1, 0, 2, -7}, {2, 4});
  const TopkResult result = topk(x, 3);
  EXPECT_EQ(result.values.to_vector<double>(), (std::vector<double>{5, 3, 3, 2, 0, -1}));
  EXPECT_EQ(result.indices.to_vector<std::int32_t>(), (std::vector<std::int32_t>{3, 0, 2, 2, 1, 0}));
}

}  // namespace candela::cases
