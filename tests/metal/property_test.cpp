#include "support/property.h"

#include <gtest/gtest.h>

#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/softmax.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

using test::check_property;
using test::Draw;

std::int64_t any_size(Draw& draw) {
  return draw.in(1, 100);
}

class Properties : public MetalTest {};

TEST_F(Properties, ProductsOfAnyShape) {
  check_property("product against f64", [](Draw& draw) {
    const std::int64_t m = any_size(draw);
    const std::int64_t k = any_size(draw);
    const std::int64_t n = any_size(draw);
    const Tensor a = random_tensor({m, k}, draw.seed());
    const Tensor b = random_tensor({k, n}, draw.seed());
    const std::vector<double> expected = product(values(a), values(b), static_cast<std::size_t>(m),
                                                 static_cast<std::size_t>(k), static_cast<std::size_t>(n));
    for (const std::string& name : gpu_names(&KernelTable::matmul)) {
      const Tensor out = full({m, n}, NAN, DType::F32, metal());
      if (name == "gemv" && std::min(m, n) > 16) continue;
      if (!run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 1, 0}).empty()) return false;
      if (relative_error(values(out), expected) > 1e-5) return false;
    }
    return true;
  });
}

TEST_F(Properties, ProductsAssociate) {
  check_property("(a b) c = a (b c)", [](Draw& draw) {
    const std::int64_t n = any_size(draw);
    const Tensor a = random_tensor({any_size(draw), n}, draw.seed());
    const Tensor b = random_tensor({n, n}, draw.seed());
    const Tensor c = random_tensor({n, any_size(draw)}, draw.seed());
    return relative_error(matmul(matmul(a, b), c), matmul(a, matmul(b, c))) <= 1e-4;
  });
}

TEST_F(Properties, TranspositionTurnsProductsAround) {
  check_property("(a b)^T = b^T a^T", [](Draw& draw) {
    const std::int64_t k = any_size(draw);
    const Tensor a = random_tensor({any_size(draw), k}, draw.seed());
    const Tensor b = random_tensor({k, any_size(draw)}, draw.seed());
    const Tensor left = contiguous(transpose(matmul(a, b), 0, 1));
    return relative_error(left, matmul(transpose(b, 0, 1), transpose(a, 0, 1))) <= 1e-5;
  });
}

TEST_F(Properties, ProductsAreLinear) {
  check_property("(2 a + 3 b) c = 2 a c + 3 b c", [](Draw& draw) {
    const std::int64_t m = any_size(draw);
    const std::int64_t k = any_size(draw);
    const Tensor a = random_tensor({m, k}, draw.seed());
    const Tensor b = random_tensor({m, k}, draw.seed());
    const Tensor c = random_tensor({k, any_size(draw)}, draw.seed());
    const Tensor joined = matmul(add(affine(a, 2, 0), affine(b, 3, 0)), c);
    const Tensor apart = add(affine(matmul(a, c), 2, 0), affine(matmul(b, c), 3, 0));
    return relative_error(joined, apart) <= 1e-5;
  });
}

TEST_F(Properties, SoftmaxIgnoresAShift) {
  check_property("softmax(x + c) = softmax(x)", [](Draw& draw) {
    const Tensor x = random_tensor({any_size(draw), any_size(draw)}, draw.seed());
    const int dim = static_cast<int>(draw.in(0, 1));
    return relative_error(softmax(affine(x, 1, 3), dim), softmax(x, dim)) <= 1e-5;
  });
}

TEST_F(Properties, RmsNormIgnoresTheScale) {
  check_property("rms_norm(4 x) = rms_norm(x)", [](Draw& draw) {
    const std::int64_t width = any_size(draw);
    const Tensor x = random_tensor({any_size(draw), width}, draw.seed());
    const Tensor weight = random_tensor({width}, draw.seed());
    return relative_error(rms_norm(affine(x, 4, 0), weight, 0), rms_norm(x, weight, 0)) <= 1e-5;
  });
}

}  // namespace
}  // namespace candela::metal_tests
