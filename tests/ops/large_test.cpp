#include <functional>
#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/core/random.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/norm.h>
#include <candela/ops/random.h>
#include <candela/ops/softmax.h>

/// Results of 16 MiB and more go past the caches on the CPU: a way of their own, which must give the same
/// bits as small results do.
namespace candela {
namespace {

using Op = std::function<Tensor(const Tensor& x, const Tensor& y)>;

constexpr std::int64_t kWidth = 2051;  // odd: rows start at every alignment
constexpr std::int64_t kRows = 4200;   // times two bytes: above the bound in every dtype

class LargeResults : public testing::TestWithParam<DType> {
 protected:
  Tensor draw(std::uint64_t seed) const {
    Generator generator(seed);
    return normal({kRows, kWidth}, generator, 0, 1, GetParam());
  }

  /// The op and its gradient on everything at once, and on a few rows alone.
  void expect_same_rows(const Op& op) const {
    Tensor x = draw(1).set_requires_grad(true);
    Tensor y = draw(2).set_requires_grad(true);
    const Tensor whole = op(x, y);
    const Tensor seed = cast(draw(3), whole.dtype());
    backward(whole, seed);
    for (const std::int64_t row : {std::int64_t{0}, kRows / 2 - 1, kRows - 3}) {
      Tensor some_x = clone(slice(x.detach(), 0, row, row + 3)).set_requires_grad(true);
      Tensor some_y = clone(slice(y.detach(), 0, row, row + 3)).set_requires_grad(true);
      const Tensor some = op(some_x, some_y);
      backward(some, clone(slice(seed, 0, row, row + 3)));
      expect_equal(slice(whole.detach(), 0, row, row + 3), some.detach(), "result");
      expect_equal(slice(x.grad(), 0, row, row + 3), some_x.grad(), "gradient of x");
      if (y.grad().defined()) expect_equal(slice(y.grad(), 0, row, row + 3), some_y.grad(), "gradient of y");
    }
  }

  static void expect_equal(const Tensor& a, const Tensor& b, const char* what) {
    EXPECT_EQ(cast(a, DType::F64).to_vector<double>(), cast(b, DType::F64).to_vector<double>()) << what;
  }
};

TEST_P(LargeResults, Elementwise) {
  expect_same_rows([](const Tensor& x, const Tensor& y) { return add(silu(x), y); });
  expect_same_rows([](const Tensor& x, const Tensor& y) { return swiglu(x, y); });
}

TEST_P(LargeResults, Softmax) {
  expect_same_rows([](const Tensor& x, const Tensor&) { return softmax(x); });
  expect_same_rows([](const Tensor& x, const Tensor&) { return log_softmax(x); });
}

TEST_P(LargeResults, Norms) {
  const Tensor weight = ones({kWidth}, GetParam());
  expect_same_rows([&](const Tensor& x, const Tensor&) { return rms_norm(x, weight, 1e-5); });
  expect_same_rows([&](const Tensor& x, const Tensor& y) { return add_rms_norm(x, y, weight, 1e-5).second; });
  expect_same_rows([&](const Tensor& x, const Tensor&) { return layer_norm(x, weight, {}, 1e-5); });
}

TEST_P(LargeResults, Casts) {
  const DType to = GetParam() == DType::BF16 ? DType::F32 : DType::BF16;
  expect_same_rows([to](const Tensor& x, const Tensor&) { return cast(x, to); });
}

INSTANTIATE_TEST_SUITE_P(DTypes, LargeResults, testing::Values(DType::F32, DType::BF16, DType::F16),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

}  // namespace
}  // namespace candela
