#include <functional>
#include <gtest/gtest.h>
#include <limits>

#include <candela/core/error.h>
#include <candela/core/tensor.h>
#include <candela/ops/copy.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>

#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;

constexpr std::int64_t kHuge = std::int64_t{1} << 62;

TEST(Shape, ViewsWithoutElementsReshapeWhateverTheirStrides) {
  const Tensor x = Tensor::empty({3, 4});
  EXPECT_EQ(reshape(slice(transpose(x, 0, 1), 0, 0, 0), {-1}).shape(), Shape{0});
  EXPECT_EQ(reshape(slice(transpose(x, 0, 1), 0, 2, 2), {5, 0, 7}).shape(), (Shape{5, 0, 7}));
  const Tensor none = slice(transpose(Tensor::empty({2, 3, 4}), 0, 2), 1, 1, 1);  // [4, 0, 2]
  EXPECT_TRUE(none.is_contiguous());
  EXPECT_EQ(reshape(none, {0, 8}).shape(), (Shape{0, 8}));
  EXPECT_EQ(reshape(none, {0, 8}).strides(), contiguous_strides({0, 8}));
}

TEST(Shape, ADimensionWithoutElementsMakesAnyLayoutContiguous) {
  EXPECT_TRUE((Layout{{0, 2, 3}, {7, 1, 2}, 0}.is_contiguous()));
  EXPECT_TRUE((Layout{{2, 3, 0}, {1, 2, 9}, 5}.is_contiguous()));
  EXPECT_FALSE((Layout{{1, 2, 3}, {7, 1, 2}, 0}.is_contiguous()));
}

TEST(Shape, LinearLayersTakeStridedBatchesWithoutRows) {
  const Tensor x = transpose(Tensor::empty({0, 3, 2}), 1, 2);  // [0, 2, 3]
  const Tensor weight = Tensor::empty({5, 3});
  EXPECT_EQ(linear(x, weight).shape(), (Shape{0, 2, 5}));
  const LowRank adapter{Tensor::empty({2, 3}), Tensor::empty({5, 2})};
  EXPECT_EQ(lora_linear(x, weight, {}, std::span(&adapter, 1)).shape(), (Shape{0, 2, 5}));
}

TEST(Shape, SizesBeyondTheAddressSpaceAreRefused) {
  EXPECT_EQ(error_of<InvalidArgument>([] { Tensor::empty({kHuge}); }),
            "tensor: f32 [4611686018427387904] needs more than 2^62 bytes");
  EXPECT_EQ(error_of<InvalidArgument>([] {
              Tensor::empty({kHuge / 4, 4}, DType::F16);
            }),
            "tensor: f16 [1152921504606846976, 4] needs more than 2^62 bytes");
  EXPECT_NE(error_of<InvalidArgument>([] { Tensor::empty({kHuge, kHuge, 0}); }), "no error");
  EXPECT_NE(error_of<InvalidArgument>([] { Tensor::empty({0, -1}); }), "no error");
  EXPECT_THROW(Tensor::empty({kHuge / 4}), DeviceError);  // a size that can be said, but not had
}

TEST(Shape, StorageViewsMustLieWithinTheirStorage) {
  const StoragePtr storage = Tensor::empty({64}).storage();  // 256 bytes
  const auto view = [&](const Layout& layout, DType dtype = DType::F32) {
    return error_of<InvalidArgument>([&] { Tensor::from_storage(storage, layout, dtype); });
  };
  EXPECT_EQ(view({{8, 8}, {8, 1}, 0}), "no error");
  EXPECT_EQ(view({{8, 8}, {8, 1}, 1}), "tensor: f32 [8, 8] at element 1 does not fit a storage of 256 bytes");
  EXPECT_EQ(view({{4}, {-1}, 10}), "tensor: strides must not be negative; got [-1] for [4]");
  EXPECT_EQ(view({{1}, {1}, -1}), "tensor: offset must not be negative; got -1");
  EXPECT_EQ(view({{8, 8}, {8}, 0}), "tensor: needs one stride per dimension; got [8] for [8, 8]");
  // Extents that wrap around 2^64 bytes, or 2^63 elements.
  EXPECT_NE(view({{2}, {kHuge}, 0}), "no error");
  EXPECT_NE(view({{3}, {kHuge}, 0}), "no error");
  EXPECT_NE(view({{kHuge, 3}, {0, 1}, 0}, DType::I64), "no error");
  EXPECT_NE(view({{1}, {1}, std::numeric_limits<std::int64_t>::max()}), "no error");
  EXPECT_EQ(view({{0, 8}, {8, 1}, 1000}), "no error");  // no elements: nothing to lie anywhere
}

}  // namespace
}  // namespace candela
