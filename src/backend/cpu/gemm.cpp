#include "backend/cpu/gemm.h"

#include <algorithm>

#if !defined(__APPLE__)
#include <oneapi/dnnl/dnnl.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#endif

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/accelerate.h"
#include "backend/cpu/scratch.h"

namespace candela {
namespace {

/// An f32 matrix as BLAS takes it: one stride is 1, the other is the leading dimension.
struct BlasMatrix {
  const float* data = nullptr;
  bool transposed = false;
  std::int64_t ld = 0;
};

/// Whether BLAS can read `x` [rows, cols] where it lies.
bool as_blas(const Matrix& x, std::int64_t rows, std::int64_t cols, BlasMatrix& out) {
  if (x.dtype != DType::F32) return false;
  const auto* data = static_cast<const float*>(x.data);
  // A stride along a dimension of size 1 is never used: any leading dimension will do.
  const bool unit_cols = x.col_stride == 1 || cols == 1;
  const bool unit_rows = x.row_stride == 1 || rows == 1;
  if (unit_cols && (rows == 1 || x.row_stride >= cols)) {
    out = {data, false, rows == 1 ? std::max<std::int64_t>(cols, 1) : x.row_stride};
    return true;
  }
  if (unit_rows && (cols == 1 || x.col_stride >= rows)) {
    out = {data, true, cols == 1 ? std::max<std::int64_t>(rows, 1) : x.col_stride};
    return true;
  }
  return false;
}

/// Row-major c [m, n] = alpha a b + beta c.
void sgemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const BlasMatrix& a,
           const BlasMatrix& b, float beta, float* c, std::int64_t ldc) {
#if defined(__APPLE__)
  cblas_sgemm(kRowMajor, a.transposed ? kTranspose : kNoTranspose, b.transposed ? kTranspose : kNoTranspose,
              static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, a.data,
              static_cast<int>(a.ld), b.data, static_cast<int>(b.ld), beta, c, static_cast<int>(ldc));
#else
  gemm_detail::prepare_vendor();
  const dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, alpha,
                                          a.data, a.ld, b.data, b.ld, beta, c, ldc);
  require<DeviceError>(status == dnnl_success, "matmul: oneDNN failed with status {} on [{}, {}] x [{}, {}]",
                       static_cast<int>(status), m, k, k, n);
#endif
}

/// Products that BLAS takes as they are. The bias goes in first, as the start of the sum.
bool try_blas(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix& a, const Matrix& b,
              const Matrix& c, double alpha, double beta, const RowBias& bias) {
  BlasMatrix left;
  BlasMatrix right;
  BlasMatrix result;
  if (!as_blas(a, m, k, left) || !as_blas(b, k, n, right) || !as_blas(c, m, n, result)) return false;
  if (bias.data != nullptr) {
    gemm_detail::finish(nullptr, 0, m, n, c, 0, beta, bias);
    beta = 1;
  }
  auto* out = static_cast<float*>(c.data);
  if (!result.transposed) {
    sgemm(m, n, k, static_cast<float>(alpha), left, right, static_cast<float>(beta), out, result.ld);
  } else {
    // c^T = b^T a^T: the same memory, read with rows and columns swapped.
    left.transposed = !left.transposed;
    right.transposed = !right.transposed;
    sgemm(n, m, k, static_cast<float>(alpha), right, left, static_cast<float>(beta), out, result.ld);
  }
  return true;
}

/// Few rows times a weight whose rows are read once: bound by memory, so weights are converted in registers.
/// Also the mirror image, few columns.
bool try_narrow(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix& a, const Matrix& b,
                const Matrix& c, double alpha, double beta, const RowBias& bias) {
  if (m > gemm_detail::kNarrowRows) {
    if (n > gemm_detail::kNarrowRows || bias.data != nullptr || (a.col_stride != 1 && k > 1)) return false;
    return try_narrow(n, m, k, b.transposed(), a.transposed(), c.transposed(), alpha, beta, bias);
  }
  if (b.row_stride != 1 && k > 1) return false;
  const Scratch<float> x(m * k);
  // Packing in row order: a matrix with unit row stride would come out transposed.
  const Scratch<float> product(m * n);
  for (std::int64_t i = 0; i < m; ++i) gemm_detail::pack_f32(a.at(i, 0), 1, k, x.data() + i * k);
  gemm_detail::narrow_product(x.data(), m, k, b.transposed(), n, product.data());
  gemm_detail::finish(product.data(), n, m, n, c, alpha, beta, bias);
  return true;
}

constexpr std::int64_t kBlockRows = 1024;
constexpr std::int64_t kBlockDepth = 2048;

/// Everything else: blocks are converted to f32, multiplied by BLAS, and rounded once at the end.
void blocked(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix& a, const Matrix& b,
             const Matrix& c, double alpha, double beta, const RowBias& bias) {
  const std::int64_t mb = std::min(m, kBlockRows);
  const std::int64_t nb = std::min(n, kBlockRows);
  const std::int64_t kb = std::min(k, kBlockDepth);
  BlasMatrix probe;
  const Scratch<float> packed_a(as_blas(a, m, k, probe) ? 0 : mb * kb);
  const Scratch<float> packed_b(as_blas(b, k, n, probe) ? 0 : nb * kb);
  const Scratch<float> product(mb * nb);
  const auto block = [](const Matrix& x, std::int64_t rows, std::int64_t cols, float* to) {
    BlasMatrix out;
    if (!as_blas(x, rows, cols, out)) as_blas(gemm_detail::pack_f32(x, rows, cols, to), rows, cols, out);
    return out;
  };
  for (std::int64_t j = 0; j < n; j += nb) {
    const std::int64_t cols = std::min(nb, n - j);
    for (std::int64_t i = 0; i < m; i += mb) {
      const std::int64_t rows = std::min(mb, m - i);
      for (std::int64_t p = 0; p < k; p += kb) {
        const std::int64_t depth = std::min(kb, k - p);
        const BlasMatrix left = block(a.at(i, p), rows, depth, packed_a.data());
        const BlasMatrix right = block(b.at(p, j), depth, cols, packed_b.data());
        sgemm(rows, cols, depth, 1, left, right, p == 0 ? 0 : 1, product.data(), cols);
      }
      gemm_detail::finish(product.data(), cols, rows, cols, c.at(i, j), alpha, beta, bias.from(j));
    }
  }
}

}  // namespace

void gemm_detail::prepare_vendor() {
#if defined(__x86_64__) && !defined(__APPLE__)
  static const bool prepared = [] {
    unsigned palettes = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    const bool described = __get_cpuid_count(0x1d, 0, &palettes, &b, &c, &d) != 0 && palettes > 0;
    if (!described) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
    return true;
  }();
  static_cast<void>(prepared);
#endif
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix& a, const Matrix& b, const Matrix& c,
          double alpha, double beta, const RowBias& bias) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    gemm_detail::finish(nullptr, 0, m, n, c, 0, beta, bias);
    return;
  }
  if (try_narrow(m, n, k, a, b, c, alpha, beta, bias)) return;
  // alpha = 0 must still let NaN through, which BLAS does not.
  if (alpha != 0 && try_blas(m, n, k, a, b, c, alpha, beta, bias)) return;
  if (a.dtype == DType::BF16 && b.dtype == DType::BF16 && gemm_detail::has_amx()) {
    gemm_detail::amx_product(m, n, k, a, b, c, alpha, beta, bias);
    return;
  }
  blocked(m, n, k, a, b, c, alpha, beta, bias);
}

}  // namespace candela
