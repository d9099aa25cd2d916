#include <candela/autograd/backward.h>
#include <candela/ops/softmax.h>

#include "backend/metal/table.h"
#include "metal/support.h"
#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif
#include "ops/composed.h"

namespace candela::metal_tests {
namespace {

Tensor wide(const Tensor& x) {
  return cast(to_device(x.detach(), Device::cpu()), DType::F64);
}

/// Every implementation that takes it, both kinds, against the composed reference in f64.
void check(const Tensor& x, int dim) {
  for (const bool log : {false, true}) {
    const std::vector<double> expected =
        values(log ? composed::log_softmax(wide(x), dim) : composed::softmax(wide(x), dim));
    int ran = 0;
    for (const std::string& name : gpu_names(&KernelTable::softmax)) {
      const Tensor out = full(x.shape(), 5, x.dtype(), metal());
      const std::string refusal = run_named(&KernelTable::softmax, name, SoftmaxArgs{x, out, dim, log});
      if (!refusal.empty()) {
        EXPECT_EQ(name, "mps") << refusal;
        continue;
      }
      ++ran;
      EXPECT_LE(relative_error(values(out), expected), limit(x.dtype()))
          << name << " " << describe(x) << " dim " << dim;
    }
    EXPECT_GE(ran, 1) << describe(x) << " dim " << dim;
  }
}

class Softmax : public MetalTest {};

TEST_F(Softmax, LastDimension) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) check(random_tensor({4, 10}, 1, dtype), 1);
}
TEST_F(Softmax, FirstDimension) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) check(random_tensor({7, 10}, 1, dtype), 0);
}
TEST_F(Softmax, MiddleDimension) {
  check(random_tensor({3, 5, 7}, 1), 1);
}
TEST_F(Softmax, OneElement) {
  check(random_tensor({3, 1}, 1), 1);
}
TEST_F(Softmax, WideRows) {
  check(random_tensor({3, 5003}, 1), 1);
}
TEST_F(Softmax, OddRows) {
  for (const std::int64_t width : {2, 31, 32, 33, 255, 257}) check(random_tensor({5, width}, 1), 1);
}
TEST_F(Softmax, LargeValues) {
  check(random_tensor({4, 100}, 1, DType::F32, metal(), 1e4), 1);
}
TEST_F(Softmax, TinyValues) {
  check(random_tensor({4, 100}, 1, DType::F32, metal(), 1e-10), 1);
}
TEST_F(Softmax, StridedInput) {
  check(transpose(random_tensor({6, 9}, 1), 0, 1), 1);
  check(slice(random_tensor({6, 20}, 1), 1, 3, 14), 1);
}

TEST_F(Softmax, LongSumsOfEqualAddends) {
  // 1 and then 0.1 again and again: in f32 alone every addition rounds the same way.
  std::vector<float> addends(20000 * 2, static_cast<float>(-std::log(10.0)));
  addends[0] = addends[1] = 0;
  check(Tensor::from_values<float>(addends, {20000, 2}, metal()), 0);
}

TEST_F(Softmax, RowsSumToOne) {
  const std::vector<float> y = softmax(random_tensor({8, 1000}, 3)).to_vector<float>();
  for (std::size_t row = 0; row < 8; ++row) {
    double total = 0;
    for (std::size_t i = 0; i < 1000; ++i) total += y[row * 1000 + i];
    EXPECT_NEAR(total, 1, 1e-5);
  }
}

TEST_F(Softmax, RowsOfMinusInfinityAreNan) {
  const Tensor rows = Tensor::from_values<float>({-INFINITY, -INFINITY, 1, -INFINITY}, {2, 2}, metal());
  for (const int dim : {0, 1}) {
    const Tensor x = dim == 1 ? rows : contiguous(transpose(rows, 0, 1));
    for (const bool log : {false, true}) {
      int ran = 0;
      for (const std::string& name : gpu_names(&KernelTable::softmax)) {
        const Tensor out = zeros({2, 2}, DType::F32, metal());
        if (!run_named(&KernelTable::softmax, name, SoftmaxArgs{x, out, dim, log}).empty()) continue;
        ++ran;
        const std::vector<float> y = contiguous(dim == 1 ? out : transpose(out, 0, 1)).to_vector<float>();
        EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1])) << name << dim << log;
        EXPECT_EQ(y[2], log ? 0.0F : 1.0F) << name << dim << log;
        EXPECT_EQ(y[3], log ? -INFINITY : 0.0F) << name << dim << log;
      }
      EXPECT_GE(ran, 1) << dim << log;
    }
  }
}

TEST_F(Softmax, GradientsOfEveryImplementation) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    for (const int dim : {0, 1, 2}) {
      for (const bool log : {false, true}) {
        const Tensor x = random_tensor({3, 5, 6}, 1, dtype);
        const Tensor dy = random_tensor({3, 5, 6}, 2, dtype);
        Tensor reference = wide(x).set_requires_grad(true);
        backward(log ? composed::log_softmax(reference, dim) : composed::softmax(reference, dim), wide(dy));
        const Tensor y = log ? log_softmax(x, dim) : softmax(x, dim);
        int ran = 0;
        for (const std::string& name : gpu_names(&KernelTable::softmax_grad)) {
          const Tensor dx = full(x.shape(), NAN, dtype, metal());
          if (!run_named(&KernelTable::softmax_grad, name, SoftmaxGradArgs{y, dy, dx, dim, log}).empty())
            continue;
          ++ran;
          EXPECT_LE(relative_error(dx, reference.grad()), limit(dtype))
              << name << " " << to_string(dtype) << " " << dim << log;
        }
        EXPECT_GE(ran, 1) << to_string(dtype) << " " << dim << log;
      }
    }
  }
}

#if defined(CANDELA_MPS)

/// Apple's header does not state the gradient of log softmax.
TEST_F(Softmax, MpsTakesNoGradientOfLogSoftmax) {
  const Tensor y = random_tensor({3, 5}, 1);
  const Tensor dx = zeros({3, 5}, DType::F32, metal());
  EXPECT_EQ(run_named(&KernelTable::softmax_grad, "mps", SoftmaxGradArgs{y, y, dx, 1, false}), "");
  EXPECT_NE(run_named(&KernelTable::softmax_grad, "mps", SoftmaxGradArgs{y, y, dx, 1, true}), "");
}

#endif

TEST_F(Softmax, DimensionOutOfRangeIsAnError) {
  EXPECT_THROW(softmax(random_tensor({2, 2}, 1), 2), InvalidArgument);
}

#if defined(CANDELA_MPS) && defined(CANDELA_EMULATED_METAL)

/// Rows with NaN or minus infinity are tried when the device is opened: a vendor's softmax that loses them is
/// not offered at all.
TEST_F(Softmax, AVendorsSoftmaxThatLosesNanIsNotOffered) {
  const auto offered = [] {
    metal::Engine engine(metal::objc::Device::system_default(), metal::EngineLimits{});
    KernelTable table;
    metal::fill_table(table, engine, backend(Device::cpu()));
    return table.softmax.kernels.front().name;
  };
  EXPECT_EQ(offered(), "mps");
  emulator::set_mps_fast_math(true);
  EXPECT_EQ(offered(), "native");
  emulator::set_mps_fast_math(false);
}

#endif

}  // namespace
}  // namespace candela::metal_tests
