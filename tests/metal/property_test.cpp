#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/softmax.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

std::int64_t any_size() {
  return *rc::gen::inRange<std::int64_t>(1, 101);
}
std::uint64_t any_seed() {
  return *rc::gen::arbitrary<std::uint64_t>();
}

class Properties : public MetalTest {
 protected:
  template <class Testable>
  static void check(const char* what, Testable&& testable) {
    EXPECT_TRUE(rc::check(what, std::forward<Testable>(testable)));
  }
};

TEST_F(Properties, ProductsOfAnyShape) {
  check("product against f64", [] {
    const std::int64_t m = any_size();
    const std::int64_t k = any_size();
    const std::int64_t n = any_size();
    const Tensor a = random_tensor({m, k}, any_seed());
    const Tensor b = random_tensor({k, n}, any_seed());
    const std::vector<double> expected = product(values(a), values(b), static_cast<std::size_t>(m),
                                                 static_cast<std::size_t>(k), static_cast<std::size_t>(n));
    for (const std::string& name : gpu_names(&KernelTable::matmul)) {
      const Tensor out = full({m, n}, NAN, DType::F32, metal());
      RC_ASSERT(run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 1, 0}).empty());
      RC_ASSERT(relative_error(values(out), expected) <= 1e-5);
    }
  });
}

TEST_F(Properties, ProductsAssociate) {
  check("(a b) c = a (b c)", [] {
    const std::int64_t n = any_size();
    const Tensor a = random_tensor({any_size(), n}, any_seed());
    const Tensor b = random_tensor({n, n}, any_seed());
    const Tensor c = random_tensor({n, any_size()}, any_seed());
    RC_ASSERT(relative_error(matmul(matmul(a, b), c), matmul(a, matmul(b, c))) <= 1e-4);
  });
}

TEST_F(Properties, TranspositionTurnsProductsAround) {
  check("(a b)^T = b^T a^T", [] {
    const std::int64_t k = any_size();
    const Tensor a = random_tensor({any_size(), k}, any_seed());
    const Tensor b = random_tensor({k, any_size()}, any_seed());
    const Tensor left = contiguous(transpose(matmul(a, b), 0, 1));
    RC_ASSERT(relative_error(left, matmul(transpose(b, 0, 1), transpose(a, 0, 1))) <= 1e-5);
  });
}

TEST_F(Properties, ProductsAreLinear) {
  check("(2 a + 3 b) c = 2 a c + 3 b c", [] {
    const std::int64_t m = any_size();
    const std::int64_t k = any_size();
    const Tensor a = random_tensor({m, k}, any_seed());
    const Tensor b = random_tensor({m, k}, any_seed());
    const Tensor c = random_tensor({k, any_size()}, any_seed());
    const Tensor joined = matmul(add(affine(a, 2, 0), affine(b, 3, 0)), c);
    const Tensor apart = add(affine(matmul(a, c), 2, 0), affine(matmul(b, c), 3, 0));
    RC_ASSERT(relative_error(joined, apart) <= 1e-5);
  });
}

TEST_F(Properties, SoftmaxIgnoresAShift) {
  check("softmax(x + c) = softmax(x)", [] {
    const Tensor x = random_tensor({any_size(), any_size()}, any_seed());
    const int dim = *rc::gen::inRange(0, 2);
    RC_ASSERT(relative_error(softmax(affine(x, 1, 3), dim), softmax(x, dim)) <= 1e-5);
  });
}

TEST_F(Properties, RmsNormIgnoresTheScale) {
  check("rms_norm(4 x) = rms_norm(x)", [] {
    const std::int64_t width = any_size();
    const Tensor x = random_tensor({any_size(), width}, any_seed());
    const Tensor weight = random_tensor({width}, any_seed());
    RC_ASSERT(relative_error(rms_norm(affine(x, 4, 0), weight, 0), rms_norm(x, weight, 0)) <= 1e-5);
  });
}

}  // namespace
}  // namespace candela::metal_tests
