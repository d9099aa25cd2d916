#include <cmath>
#include <limits>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>

#include "ops/adjacent.h"
#include "ops/op_cases.h"
#include "support/errors.h"

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

/// x may lie in the memory that is written: every element is read before it changes.
TEST(InPlace, ViewsOfTheTargetAreReadAsTheyWere) {
  constexpr std::int64_t kSize = 300;
  for (const Device device : available_devices()) {
    const auto numbers = [&] { return arange(kSize * kSize, DType::F32, device); };
    const std::vector<float> before = numbers().to_vector<float>();
    const auto at = [&](std::int64_t row, std::int64_t column) {
      return before[static_cast<std::size_t>(row * kSize + column)];
    };

    const Tensor turned = reshape(numbers(), {kSize, kSize});
    copy_(turned, transpose(turned, 0, 1));
    const Tensor symmetric = reshape(numbers(), {kSize, kSize});
    add_(symmetric, transpose(symmetric, 0, 1));
    const Tensor shifted = numbers();
    add_(slice(shifted, 0, 1, kSize * kSize), slice(shifted, 0, 0, kSize * kSize - 1));
    const std::vector<float> results[] = {turned.to_vector<float>(), symmetric.to_vector<float>(),
                                          shifted.to_vector<float>()};
    for (std::int64_t i = 0; i < kSize * kSize; ++i) {
      const auto n = static_cast<std::size_t>(i);
      const std::int64_t row = i / kSize;
      const std::int64_t column = i % kSize;
      ASSERT_EQ(results[0][n], at(column, row)) << to_string(device) << " element " << i;
      ASSERT_EQ(results[1][n], at(row, column) + at(column, row)) << to_string(device) << " element " << i;
      ASSERT_EQ(results[2][n], i == 0 ? 0 : before[n] + before[n - 1])
          << to_string(device) << " element " << i;
    }
  }
}

TEST(InPlace, WritesConvertToTheTargetsDtype) {
  for (const Device device : available_devices()) {
    const Tensor x = to_device(Tensor::from_values(std::vector<float>{1.5F, -2.5F, 300}, {3}), device);
    const Tensor bytes = full({3}, 7, DType::U8, device);
    copy_(bytes, x);
    EXPECT_EQ(bytes.to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{1, 0, 255}));
    const Tensor sum = full({2, 3}, 1, DType::F32, device);
    const Tensor column = transpose(slice(sum, 0, 1, 2), 0, 1);
    add_(column, reshape(cast(x, DType::F16), {3, 1}));
    EXPECT_EQ(sum.to_vector<float>(), (std::vector<float>{1, 1, 1, 2.5F, -1.5F, 301}));
    EXPECT_THROW(add_(sum, x), InvalidArgument);
    EXPECT_THROW(copy_(sum, x), InvalidArgument);
  }
}

TEST(Copy, ContiguousCopiesOnlyWhatIsNot) {
  for (const Device device : available_devices()) {
    const Tensor x = reshape(arange(6, DType::F32, device), {2, 3});
    EXPECT_TRUE(contiguous(x).same_as(x));
    const Tensor turned = contiguous(transpose(x, 0, 1));
    EXPECT_TRUE(turned.is_contiguous());
    EXPECT_EQ(turned.to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  }
}

TEST(Copy, TensorsGoToADeviceAndBackWithTheirGradient) {
  for (const Device device : available_devices()) {
    Tensor x = reshape(arange(6, DType::F32), {2, 3});
    x.set_requires_grad(true);
    const Tensor there = to_device(transpose(x, 0, 1), device);
    EXPECT_EQ(there.device(), device);
    EXPECT_EQ(there.to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
    EXPECT_TRUE(to_device(there, device).same_as(there));
    backward(there, reshape(arange(6, DType::F32, device), {3, 2}));
    EXPECT_EQ(x.grad().device(), Device::cpu());
    EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{0, 2, 4, 1, 3, 5}));
  }
}

TEST(Fill, FullAndArangeInEveryDtype) {
  for (const Device device : available_devices()) {
    for (const DType dtype :
         {DType::F32, DType::BF16, DType::F16, DType::I64, DType::I32, DType::U8, DType::F64}) {
      const Tensor filled = full({2, 2}, 3, dtype, device);
      const Tensor counted = arange(4, dtype, device);
      for (const Tensor& x : {filled, counted}) {
        EXPECT_EQ(x.dtype(), dtype);
        EXPECT_EQ(x.device(), device);
      }
      EXPECT_EQ(filled.shape(), (Shape{2, 2}));
      const auto values = [](const Tensor& x) {
        return cast(to_device(x, Device::cpu()), DType::F64).to_vector<double>();
      };
      EXPECT_EQ(values(filled), (std::vector<double>{3, 3, 3, 3})) << to_string(dtype);
      EXPECT_EQ(values(counted), (std::vector<double>{0, 1, 2, 3})) << to_string(dtype);
    }
    EXPECT_EQ(arange(0, DType::I32, device).numel(), 0);
  }
  EXPECT_THROW(arange(-1), InvalidArgument);
}

TEST(Split, PiecesAreViewsWhoseGradientsJoin) {
  for (const Device device : available_devices()) {
    Tensor x = Tensor::from_values(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, {2, 4}, device);
    x.set_requires_grad(true);
    const std::vector<Tensor> pieces = split(x, -1, std::vector<std::int64_t>{1, 0, 3});
    ASSERT_EQ(pieces.size(), 3U);
    EXPECT_EQ(pieces[0].to_vector<float>(), (std::vector<float>{1, 5}));
    EXPECT_EQ(pieces[1].shape(), (Shape{2, 0}));
    EXPECT_EQ(pieces[2].to_vector<float>(), (std::vector<float>{2, 3, 4, 6, 7, 8}));
    EXPECT_EQ(pieces[2].storage(), x.storage());
    backward(mul(pieces[2], pieces[2]), ones({2, 3}, DType::F32, device));
    EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{0, 4, 6, 8, 0, 12, 14, 16}));
  }
  EXPECT_THROW(split(ones({4}), 0, std::vector<std::int64_t>{2, 1}), InvalidArgument);
  EXPECT_THROW(split(ones({4}), 0, std::vector<std::int64_t>{2, 3}), InvalidArgument);
  EXPECT_THROW(split(ones({4}), 0, std::vector<std::int64_t>{5, -1}), InvalidArgument);
}

/// The gradient of a group of projections arrives packed: swiglu leaves its two side by side.
TEST(Split, GradientsThatLieSideBySideAreNotCopied) {
  const Tensor packed = ones({3, 8});
  Tensor x = packed;
  x.set_requires_grad(true);
  const Tensor doubled = affine(x, 2, 0);
  const std::vector<Tensor> halves = split(doubled, -1, std::vector<std::int64_t>{4, 4});
  const Tensor y = swiglu(halves[0], halves[1]);
  const std::vector<Tensor> grads = y.grad_node()->backward(std::vector{ones({3, 4})});
  EXPECT_EQ(enclosing(grads, 1).shape(), (Shape{3, 8}));
  EXPECT_TRUE(enclosing(grads, 1).is_contiguous());
  EXPECT_EQ(joined(grads, 1).storage(), grads[0].storage());
  const std::vector<Tensor> apart = {ones({3, 4}), ones({3, 4})};
  EXPECT_FALSE(enclosing(apart, 1).defined());
  EXPECT_EQ(joined(apart, 1).shape(), (Shape{3, 8}));
}

TEST(Reshape, SizesThatMultiplyBeyondRangeAreRefused) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 40U;
  EXPECT_EQ(test::error_of<InvalidArgument>([&] {
              reshape(ones({4}), {kLarge, kLarge, -1});
            }),
            "shape: [1099511627776, 1099511627776, 1] has too many elements");
  EXPECT_THROW(reshape(ones({4}), {-2, -2, -1}), InvalidArgument);
  EXPECT_THROW(reshape(ones({4}), {0, -1}), InvalidArgument);
  EXPECT_THROW(reshape(ones({4}), {-1, -1}), InvalidArgument);
  EXPECT_EQ(reshape(ones({4}), {2, -1}).shape(), (Shape{2, 2}));
}

}  // namespace candela::cases
