#include <candela/autograd/backward.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/norm.h>

#include "metal/support.h"
#include "ops/composed.h"

namespace candela::metal_tests {
namespace {

Tensor wide(const Tensor& x) {
  return x.defined() ? cast(to_device(x.detach(), Device::cpu()), DType::F64) : x;
}

class RmsNorm : public MetalTest {
 protected:
  static void check(const Tensor& x, const Tensor& weight, double eps = 1e-6) {
    EXPECT_LE(relative_error(rms_norm(x, weight, eps), composed::rms_norm(wide(x), wide(weight), eps, 0)),
              limit(x.dtype()))
        << describe(x);
  }
};

TEST_F(RmsNorm, Basic) {
  const Tensor x = Tensor::from_values<float>({3, 4}, {1, 2}, metal());
  const std::vector<float> y = rms_norm(x, ones({2}, DType::F32, metal()), 0).to_vector<float>();
  EXPECT_NEAR(y[0], 3 / std::sqrt(12.5), 1e-6);
  EXPECT_NEAR(y[1], 4 / std::sqrt(12.5), 1e-6);
}
TEST_F(RmsNorm, EveryDtype) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    check(random_tensor({2, 8, 64}, 1, dtype), random_tensor({64}, 2, dtype));
  }
}
TEST_F(RmsNorm, OutputHasUnitRms) {
  const std::vector<float> y =
      rms_norm(random_tensor({5, 777}, 1), ones({777}, DType::F32, metal()), 1e-6).to_vector<float>();
  for (std::size_t row = 0; row < 5; ++row) {
    double squares = 0;
    for (std::size_t i = 0; i < 777; ++i) squares += y[row * 777 + i] * y[row * 777 + i];
    EXPECT_NEAR(std::sqrt(squares / 777), 1, 1e-4);
  }
}
TEST_F(RmsNorm, TinyInputs) {
  check(random_tensor({4, 128}, 1, DType::F32, metal(), 1e-10), random_tensor({128}, 2), 1e-20);
}
TEST_F(RmsNorm, HugeInputs) {
  check(random_tensor({4, 128}, 1, DType::F32, metal(), 1e10), random_tensor({128}, 2));
}
TEST_F(RmsNorm, OddWidths) {
  for (const std::int64_t width : {1, 3, 31, 33, 255, 257, 1000})
    check(random_tensor({3, width}, 1), random_tensor({width}, 2));
}
TEST_F(RmsNorm, StridedInput) {
  check(transpose(random_tensor({20, 6}, 1), 0, 1), random_tensor({20}, 2));
}
TEST_F(RmsNorm, NanStaysInItsRow) {
  const Tensor x = Tensor::from_values<float>({1, NAN, 1, 1}, {2, 2}, metal());
  const std::vector<float> y = rms_norm(x, ones({2}, DType::F32, metal()), 0).to_vector<float>();
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
  EXPECT_EQ(y[2], 1.0F);
}
TEST_F(RmsNorm, WeightOfAnotherShapeIsAnError) {
  EXPECT_THROW(rms_norm(random_tensor({2, 4}, 1), random_tensor({3}, 1), 0), InvalidArgument);
}

TEST_F(RmsNorm, WithResidual) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    const Tensor x = random_tensor({6, 40}, 1, dtype);
    const Tensor residual = random_tensor({6, 40}, 2, dtype);
    const Tensor weight = random_tensor({40}, 3, dtype);
    const auto [h, y] = add_rms_norm(x, residual, weight, 1e-5);
    const auto [h_reference, y_reference] =
        composed::add_rms_norm(wide(x), wide(residual), wide(weight), 1e-5, 0);
    EXPECT_LE(relative_error(h, h_reference), limit(dtype));
    EXPECT_LE(relative_error(y, y_reference), limit(dtype));
  }
}

TEST_F(RmsNorm, Gradients) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    Tensor x = random_tensor({130, 40}, 1, dtype).set_requires_grad(true);
    Tensor residual = random_tensor({130, 40}, 2, dtype).set_requires_grad(true);
    Tensor weight = random_tensor({40}, 3, dtype).set_requires_grad(true);
    Tensor wide_x = wide(x).set_requires_grad(true);
    Tensor wide_residual = wide(residual).set_requires_grad(true);
    Tensor wide_weight = wide(weight).set_requires_grad(true);
    const Tensor dy = random_tensor({130, 40}, 4, dtype);
    backward(add_rms_norm(x, residual, weight, 1e-5).second, dy);
    backward(composed::add_rms_norm(wide_x, wide_residual, wide_weight, 1e-5, 0).second, wide(dy));
    EXPECT_LE(relative_error(x.grad(), wide_x.grad()), limit(dtype));
    EXPECT_LE(relative_error(residual.grad(), wide_residual.grad()), limit(dtype));
    EXPECT_LE(relative_error(weight.grad(), wide_weight.grad()), limit(dtype));
  }
}

class LayerNorm : public MetalTest {};

TEST_F(LayerNorm, ForwardWithAndWithoutWeightAndBias) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    const Tensor x = random_tensor({7, 50}, 1, dtype);
    const Tensor weight = random_tensor({50}, 2, dtype);
    const Tensor bias = random_tensor({50}, 3, dtype);
    for (const auto& [w, b] :
         {std::pair{weight, bias}, std::pair{weight, Tensor()}, std::pair{Tensor(), Tensor()}}) {
      EXPECT_LE(
          relative_error(layer_norm(x, w, b, 1e-5), composed::layer_norm(wide(x), wide(w), wide(b), 1e-5)),
          limit(dtype));
    }
  }
}

TEST_F(LayerNorm, LargeMeanDoesNotSwallowTheVariance) {
  const Tensor x = affine(random_tensor({3, 200}, 1), 1, 1000);
  EXPECT_LE(relative_error(layer_norm(x, {}, {}, 1e-5), composed::layer_norm(wide(x), {}, {}, 1e-5)), 1e-5);
}

TEST_F(LayerNorm, Gradients) {
  Tensor x = random_tensor({70, 33}, 1).set_requires_grad(true);
  Tensor weight = random_tensor({33}, 2).set_requires_grad(true);
  Tensor bias = random_tensor({33}, 3).set_requires_grad(true);
  Tensor wide_x = wide(x).set_requires_grad(true);
  Tensor wide_weight = wide(weight).set_requires_grad(true);
  Tensor wide_bias = wide(bias).set_requires_grad(true);
  const Tensor dy = random_tensor({70, 33}, 4);
  backward(layer_norm(x, weight, bias, 1e-5), dy);
  backward(composed::layer_norm(wide_x, wide_weight, wide_bias, 1e-5), wide(dy));
  EXPECT_LE(relative_error(x.grad(), wide_x.grad()), 1e-5);
  EXPECT_LE(relative_error(weight.grad(), wide_weight.grad()), 1e-5);
  EXPECT_LE(relative_error(bias.grad(), wide_bias.grad()), 1e-5);
}

}  // namespace
}  // namespace candela::metal_tests
