#include <functional>
#include <limits>

#include <candela/ops/attention.h>
#include <candela/ops/copy.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(attention, Forward, testing::ValuesIn(tested("attention")), test_name);
INSTANTIATE_TEST_SUITE_P(attention, Backward, testing::ValuesIn(tested("attention")), test_name);
INSTANTIATE_TEST_SUITE_P(attention, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("attention")), test_name);

}  // namespace candela::cases

namespace candela {
namespace {

Tensor i32(const std::vector<std::int32_t>& values) {
  return Tensor::from_values(values, {static_cast<std::int64_t>(values.size())});
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Runs the call, which must throw, and returns what it says.
std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(AttentionArguments, RefusesBoundsThatDoNotCoverTheTokens) {
  const Tensor x = zeros({1, 200, 2, 4});
  const auto refused = [&](const Tensor& bounds) {
    return refusal([&] { attention(x, x, x, {.cu_seqlens = bounds}); });
  };
  EXPECT_EQ(refused(i32({0, 150, 100, 900})),
            "attention: cu_seqlens must not decrease; got 100 after 150 at index 2");
  EXPECT_EQ(refused(i32({0, 100})), "attention: cu_seqlens must end at T = 200; got 100");
  EXPECT_EQ(refused(i32({0, 100, 900})), "attention: cu_seqlens must end at T = 200; got 900");
  EXPECT_EQ(refused(i32({-4, 200})), "attention: cu_seqlens must start at 0; got -4");
  EXPECT_EQ(refused(i32({0})), "attention: cu_seqlens must be i32 [N + 1], N at least 1; got i32 [1] on cpu");
  EXPECT_EQ(refused(cast(i32({0, 200}), DType::I64)),
            "attention: cu_seqlens must be i32 [N + 1], N at least 1; got i64 [2] on cpu");
  EXPECT_EQ(refused(reshape(i32({0, 200}), {1, 2})),
            "attention: cu_seqlens must be i32 [N + 1], N at least 1; got i32 [1, 2] on cpu");
  EXPECT_EQ(refused(to_device(i32({0, 200}), Device::plan())),
            "attention: all tensors must be on one device; got cpu and plan");
  const Tensor two = zeros({2, 200, 2, 4});
  EXPECT_NE(refusal([&] {
              attention(two, two, two, {.cu_seqlens = i32({0, 200})});
            }).find("need B = 1"),
            std::string::npos);
}

TEST(AttentionArguments, RefusesWhatDoesNotFitTogether) {
  const Tensor x = zeros({2, 5, 4, 8});
  const auto refused = [&](const Tensor& k, const Tensor& v, const AttentionOptions& options = {}) {
    return refusal([&] { attention(x, k, v, options); });
  };
  EXPECT_EQ(refused(zeros({2, 5, 3, 8}), zeros({2, 5, 3, 8})),
            "attention: 4 query heads must be a multiple of 3 key heads");
  EXPECT_EQ(refused(zeros({2, 5, 0, 8}), zeros({2, 5, 0, 8})),
            "attention: 4 query heads must be a multiple of 0 key heads");
  EXPECT_EQ(refused(zeros({2, 5, 4, 16}), zeros({2, 5, 4, 16})),
            "attention: q [2, 5, 4, 8] and k [2, 5, 4, 16] must agree in batch and head size");
  EXPECT_EQ(refused(x, zeros({2, 6, 4, 8})),
            "attention: k and v must have one shape; got [2, 5, 4, 8] and [2, 6, 4, 8]");
  EXPECT_EQ(refused(x, cast(x, DType::BF16)),
            "attention: dtypes must match; got f32 and bf16; cast() one of them");
  EXPECT_EQ(refused(x, x, {.window = -1}), "attention: window must be at least 1, or 0 for no limit; got -1");
  EXPECT_EQ(refused(x, x, {.scale = kNan}),
            "attention: scale must be a finite f32 number, or 0 for 1 / sqrt(D); got nan");
  EXPECT_EQ(refused(x, x, {.scale = 1e-60}),
            "attention: scale must be a finite f32 number, or 0 for 1 / sqrt(D); got 1e-60");
  EXPECT_EQ(refused(x, x, {.q_start = i32({0})}), "attention: q_start must be i32 [2]; got i32 [1] on cpu");
  EXPECT_EQ(refused(x, x, {.q_start = cast(i32({0, 0}), DType::I64)}),
            "attention: q_start must be i32 [2]; got i64 [2] on cpu");
}

}  // namespace
}  // namespace candela
