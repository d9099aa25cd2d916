#include <algorithm>
#include <cmath>

#if !defined(__APPLE__)
#include <oneapi/dnnl/dnnl.h>
#endif

#include <candela/core/error.h>

#include "backend/cpu/accelerate.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_cut.h"
#include "backend/cpu/vendor_threads.h"

/// f32 products by the BLAS call of the vendor's library.
namespace candela::gemm_detail {
namespace {

/// Row-major c [m, n] = alpha a b + beta c.
void call_sgemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const BlasMatrix& a,
                const BlasMatrix& b, float beta, const BlasMatrix& c) {
  const auto* left = static_cast<const float*>(a.data);
  const auto* right = static_cast<const float*>(b.data);
  auto* out = static_cast<float*>(c.data);
#if defined(__APPLE__)
  cblas_sgemm(kRowMajor, a.transposed ? kTranspose : kNoTranspose, b.transposed ? kTranspose : kNoTranspose,
              static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, left,
              static_cast<int>(a.ld), right, static_cast<int>(b.ld), beta, out, static_cast<int>(c.ld));
#else
  prepare_vendor();
  static const bool roomy = (require_room_for_code(), true);  // asked again until it is true
  static_cast<void>(roomy);
  const OneVendorThread alone;
  const dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, alpha,
                                          left, a.ld, right, b.ld, beta, out, c.ld);
  require<DeviceError>(status == dnnl_success, "matmul: oneDNN failed with status {} on [{}, {}] x [{}, {}]",
                       static_cast<int>(status), m, k, k, n);
#endif
}

}  // namespace

std::string_view sgemm_refusal(const GemmArgs& p) {
  BlasMatrix probe;
  if (p.a.dtype != DType::F32 || p.b.dtype != DType::F32 || p.c.dtype != DType::F32) return "takes f32 only";
  // alpha = 0 must still let NaN through, which BLAS does not.
  const auto alpha = static_cast<float>(p.alpha);
  if (alpha == 0) return "does not let NaN through where alpha is 0";
  // oneDNN's call loses an alpha that is NaN on SSE4.1.
  if (!std::isfinite(alpha) || !std::isfinite(static_cast<float>(p.beta))) return "takes finite factors";
  if (!as_blas(p.a, p.m, p.k, probe) || !as_blas(p.b, p.k, p.n, probe) || !as_blas(p.c, p.m, p.n, probe)) {
    return "needs matrices with one unit stride";
  }
  return {};
}

namespace {

/// By one call. The bias goes in first, as the start of the sum.
void multiply_piece(const GemmArgs& p) {
  BlasMatrix left;
  BlasMatrix right;
  BlasMatrix result;
  as_blas(p.a, p.m, p.k, left);
  as_blas(p.b, p.k, p.n, right);
  as_blas(p.c, p.m, p.n, result);
  double beta = p.beta;
  if (p.bias.data != nullptr) {
    finish(nullptr, 0, p.m, p.n, p.c, 0, beta, p.bias);
    beta = 1;
  }
  const auto scale = static_cast<float>(p.alpha);
  const auto keep = static_cast<float>(beta);
  if (!result.transposed) return call_sgemm(p.m, p.n, p.k, scale, left, right, keep, result);
  // c^T = b^T a^T: the same memory, read with rows and columns swapped.
  left.transposed = !left.transposed;
  right.transposed = !right.transposed;
  call_sgemm(p.n, p.m, p.k, scale, right, left, keep, result);
}

}  // namespace

void sgemm(const GemmArgs& p, Workspace memory) {
  if (memory.measuring()) return;
#if defined(__APPLE__)
  multiply_piece(p);  // Accelerate has the matrix units of the whole chip behind one call
#else
  for_each_piece(p, cut_for(p), multiply_piece);
#endif
}

}  // namespace candela::gemm_detail
