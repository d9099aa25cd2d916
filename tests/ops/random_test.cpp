#include <algorithm>

#include <candela/ops/copy.h>
#include <candela/ops/random.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(random, Forward, testing::ValuesIn(tested("random")), test_name);
INSTANTIATE_TEST_SUITE_P(random, Backward, testing::ValuesIn(tested("random")), test_name);
INSTANTIATE_TEST_SUITE_P(random, ReferenceGradient, testing::ValuesIn(with_reference_gradient("random")),
                         test_name);

/// [low, high) holds after rounding to the dtype too.
TEST(Uniform, StaysWithinItsRangeInEveryDtype) {
  struct Range {
    double low, high;
  };
  for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
    for (const Range range : {Range{0, 1}, Range{-1, 1}, Range{1, 2}, Range{0.3, 0.7}, Range{-3, -2},
                              Range{0, 0x1p-20}, Range{100, 101}, Range{16777215, 16777217}}) {
      if (dtype == DType::F16 && range.high > 65504) continue;
      Generator generator(11);
      const Tensor x = uniform({40000}, generator, range.low, range.high, dtype);
      const std::vector<double> values = cast(x, DType::F64).to_vector<double>();
      EXPECT_LT(*std::max_element(values.begin(), values.end()), range.high)
          << to_string(dtype) << " [" << range.low << ", " << range.high << ")";
      EXPECT_GE(*std::min_element(values.begin(), values.end()), range.low)
          << to_string(dtype) << " [" << range.low << ", " << range.high << ")";
    }
    Generator generator(1);
    EXPECT_EQ(uniform({1}, generator, 2, 2, dtype).item(), 2);
  }
}

/// f64 has no kernels: the composed references draw the same numbers.
TEST(Random, DrawsInF64TakeTheComposedWay) {
  const auto draws = [](DType dtype) {
    Generator generator(5);
    const Tensor u = uniform({100}, generator, -1, 2, dtype);
    const Tensor n = normal({100}, generator, 1, 0.5, dtype);
    const Tensor d = dropout(n, 0.3, generator);
    std::vector<double> all;
    for (const Tensor& x : {u, n, d}) {
      const std::vector<double> values = cast(x, DType::F64).to_vector<double>();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  const std::vector<double> wide = draws(DType::F64);
  const std::vector<double> narrow = draws(DType::F32);
  for (std::size_t i = 0; i < wide.size(); ++i) EXPECT_NEAR(wide[i], narrow[i], 1e-5) << i;
}

}  // namespace candela::cases
