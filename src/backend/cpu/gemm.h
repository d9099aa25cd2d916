#pragma once

#include <cstdint>
#include <string_view>

#include "backend/args/matmul.h"
#include "backend/workspace.h"

/// Matrix products on the CPU: every kernel that multiplies matrices calls gemm().
namespace candela {

/// A two-dimensional tensor as a matrix.
inline Matrix as_matrix(const TensorArg& x) {
  return {x.data, x.dtype, x.strides[0], x.strides[1]};
}

/// Runs the first implementation that takes the product; with tuning on, the fastest. Uses all threads;
/// inside a parallel_for, the calling thread alone. Works in `memory`, the workspace of the kernel that calls
/// it; given a measuring one, it counts what it needs and looks at no data.
void gemm(const GemmArgs& product, Workspace memory);

inline void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix& a, const Matrix& b,
                 const Matrix& c, Workspace memory, double alpha = 1, double beta = 0,
                 const RowBias& bias = {}) {
  gemm(GemmArgs{m, n, k, a, b, c, alpha, beta, bias}, memory);
}

namespace gemm_detail {

// The implementations take products of positive sizes. `*_refusal`: why one cannot take a product, empty if
// it can. Given a measuring workspace, they take what they need and return.

/// Few rows or few columns (at most kNarrowRows): bound by memory, so weights are converted in registers.
inline constexpr std::int64_t kNarrowRows = 8;
std::string_view narrow_refusal(const GemmArgs& product);
void narrow(const GemmArgs& product, Workspace memory);

/// f32 operands as BLAS takes them, by the BLAS call of oneDNN, or of Accelerate on macOS.
std::string_view sgemm_refusal(const GemmArgs& product);
void sgemm(const GemmArgs& product, Workspace memory = {});

/// bf16 a and b on the tile unit of recent Intel processors.
std::string_view amx_refusal(const GemmArgs& product);
void amx(const GemmArgs& product, Workspace memory);

/// f32, or bf16 where the processor multiplies it, by oneDNN's matmul primitive.
std::string_view onednn_refusal(const GemmArgs& product);
void onednn(const GemmArgs& product, Workspace memory = {});

/// Everything: blocks are converted to f32, multiplied by sgemm, and rounded once at the end.
void blocked(const GemmArgs& product, Workspace memory);

/// c = alpha product + beta c + bias, from the f32 product [m, n] with row stride `ld`.
void finish(const float* product, std::int64_t ld, std::int64_t m, std::int64_t n, const Matrix& c,
            double alpha, double beta, const RowBias& bias);

/// f32 copy of `x` [rows, cols] in `to`, rows-major or columns-major as x itself lies best; returns it as a
/// matrix.
Matrix pack_f32(const Matrix& x, std::int64_t rows, std::int64_t cols, float* to);

/// product [m, n] (row stride n) = x [m, k] (f32 or of w's dtype) times the transpose of w [n, k]; the
/// columns of both have unit stride. m <= kNarrowRows. `ordered`: narrow_product_elements floats.
void narrow_product(const Matrix& x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t n,
                    float* ordered, float* product);
std::int64_t narrow_product_elements(DType x, std::int64_t m, std::int64_t k, DType w);

/// A matrix as BLAS takes it: one stride is 1, the other is the leading dimension.
struct BlasMatrix {
  void* data = nullptr;
  bool transposed = false;
  std::int64_t ld = 0;
};
/// Whether BLAS can read `x` [rows, cols] where it lies.
bool as_blas(const Matrix& x, std::int64_t rows, std::int64_t cols, BlasMatrix& out);

/// To be called before any use of oneDNN. oneDNN 2.6 takes the tile palette from CPUID leaf 0x1D; under a
/// hypervisor that hides the leaf but offers the tile unit, its bf16 products die of SIGILL, for they run on
/// tiles that were never configured. There it is kept to AVX-512.
void prepare_vendor();

/// DeviceError unless there is room for code that oneDNN is about to make: 2.6 ends the process where an
/// allocation fails while it does.
void require_room_for_code();

}  // namespace gemm_detail
}  // namespace candela
