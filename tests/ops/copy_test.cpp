#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(copy, Forward, testing::ValuesIn(tested("copy")), test_name);
INSTANTIATE_TEST_SUITE_P(copy, Backward, testing::ValuesIn(tested("copy")), test_name);
INSTANTIATE_TEST_SUITE_P(copy, ReferenceGradient, testing::ValuesIn(with_reference_gradient("copy")),
                         test_name);

template <class T>
std::vector<T> cast_to(const Tensor& x, const Device device) {
  return cast(to_device(x, device), DTypeOf<T>::kValue).template to_vector<T>();
}

/// The nearest value that the integer type holds, after truncation; NaN becomes 0.
TEST(Cast, FloatsBeyondAnIntegerTypeSaturate) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {-1,    -0.5F,  255.9F,   256,       1e10F, -1e10F,
                                     1e20F, -1e20F, infinity, -infinity, nan,   2147483648.0F};
  const Tensor x = Tensor::from_values(values, {static_cast<std::int64_t>(values.size())});
  constexpr std::int32_t kTop32 = std::numeric_limits<std::int32_t>::max();
  constexpr std::int32_t kLow32 = std::numeric_limits<std::int32_t>::min();
  constexpr std::int64_t kTop64 = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kLow64 = std::numeric_limits<std::int64_t>::min();
  for (const Device device : available_devices()) {
    EXPECT_EQ(cast_to<std::uint8_t>(x, device),
              (std::vector<std::uint8_t>{0, 0, 255, 255, 255, 0, 255, 0, 255, 0, 0, 255}));
    EXPECT_EQ(cast_to<std::int32_t>(x, device),
              (std::vector<std::int32_t>{-1, 0, 255, 256, kTop32, kLow32, kTop32, kLow32, kTop32, kLow32, 0,
                                         kTop32}));
    EXPECT_EQ(cast_to<std::int64_t>(x, device),
              (std::vector<std::int64_t>{-1, 0, 255, 256, 10000000000, -10000000000, kTop64, kLow64, kTop64,
                                         kLow64, 0, 2147483648}));
  }
  const Tensor halves = cast(Tensor::from_values(std::vector<float>{-1, 70000, nan, 300}, {4}), DType::F16);
  EXPECT_EQ(cast_to<std::uint8_t>(halves, Device::cpu()), (std::vector<std::uint8_t>{0, 255, 0, 255}));
  const Tensor doubles = Tensor::from_values(std::vector<double>{-3e9, 3e9, 1e300, -1e300}, {4});
  EXPECT_EQ(cast_to<std::int32_t>(doubles, Device::cpu()),
            (std::vector<std::int32_t>{kLow32, kTop32, kTop32, kLow32}));
}

TEST(Cast, IntegersBeyondANarrowerTypeSaturate) {
  const Tensor x = Tensor::from_values(
      std::vector<std::int64_t>{-1, 0, 255, 256, std::int64_t{1} << 40U, -(std::int64_t{1} << 40U)}, {6});
  for (const Device device : available_devices()) {
    EXPECT_EQ(cast_to<std::uint8_t>(x, device), (std::vector<std::uint8_t>{0, 0, 255, 255, 255, 0}));
    EXPECT_EQ(cast_to<std::int32_t>(x, device),
              (std::vector<std::int32_t>{-1, 0, 255, 256, std::numeric_limits<std::int32_t>::max(),
                                         std::numeric_limits<std::int32_t>::min()}));
  }
}

TEST(Fill, ValuesBeyondAnIntegerTypeSaturate) {
  for (const Device device : available_devices()) {
    EXPECT_EQ(full({1}, -1, DType::U8, device).to_vector<std::uint8_t>(), std::vector<std::uint8_t>{0});
    EXPECT_EQ(full({1}, 1e6, DType::U8, device).to_vector<std::uint8_t>(), std::vector<std::uint8_t>{255});
    EXPECT_EQ(full({1}, std::nan(""), DType::I32, device).to_vector<std::int32_t>(),
              std::vector<std::int32_t>{0});
  }
}

/// Elements that share memory have no value of their own to write.
TEST(InPlace, TargetsWhoseElementsShareMemoryAreRefused) {
  const Tensor row = zeros({1, 3});
  const Tensor target = broadcast_to(row, {4, 3});
  EXPECT_THROW(add_(target, ones({4, 3})), InvalidArgument);
  EXPECT_THROW(copy_(target, ones({4, 3})), InvalidArgument);
  EXPECT_THROW(fill_(target, 1), InvalidArgument);
  const Tensor overlapping = Tensor::from_storage(zeros({8}).storage(), {{3, 4}, {2, 1}, 0}, DType::F32);
  EXPECT_THROW(fill_(overlapping, 1), InvalidArgument);
  EXPECT_NO_THROW(fill_(broadcast_to(row, {1, 3}), 1));
  EXPECT_NO_THROW(add_(transpose(zeros({3, 4}), 0, 1), ones({4, 3})));
  EXPECT_NO_THROW(fill_(slice(broadcast_to(zeros({1, 3}), {4, 3}), 0, 2, 3), 1));
}

}  // namespace candela::cases
