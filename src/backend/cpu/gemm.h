#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <candela/core/dtype.h>

#include "backend/args/tensor_arg.h"
#include "backend/workspace.h"

/// The one door to matrix products on the CPU: every kernel that multiplies matrices calls gemm(), which runs
/// one of the implementations of gemm in the kernel table.
namespace candela {

/// Element (i, j) lies `i * row_stride + j * col_stride` elements after `data`. f32, bf16 or f16.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::F32;
  std::int64_t row_stride = 0, col_stride = 1;

  Matrix transposed() const { return {data, dtype, col_stride, row_stride}; }
  Matrix at(std::int64_t i, std::int64_t j) const {
    const auto bytes = (i * row_stride + j * col_stride) * static_cast<std::int64_t>(size_of(dtype));
    // There is no data while a workspace is measured.
    return {data == nullptr ? nullptr : static_cast<std::byte*>(data) + bytes, dtype, row_stride, col_stride};
  }
};

/// A two-dimensional tensor as a matrix.
inline Matrix as_matrix(const TensorArg& x) {
  return {x.data, x.dtype, x.strides[0], x.strides[1]};
}

/// What is added to every row of a product: absent if `data` is null.
struct RowBias {
  const void* data = nullptr;
  DType dtype = DType::F32;
  std::int64_t stride = 1;

  /// The bias of columns [first, ...).
  RowBias from(std::int64_t first) const {
    if (data == nullptr) return *this;
    return {static_cast<const std::byte*>(data) + first * stride * static_cast<std::int64_t>(size_of(dtype)),
            dtype, stride};
  }
};

/// c [M, N] = alpha a [M, K] b [K, N] + beta c + bias [N]. The dtypes are free of each other; sums are f32.
/// beta = 0 does not read c. Uses all threads; from inside a parallel_for it runs on the calling thread
/// alone. Works in `memory`, the workspace of the kernel that calls it; given a measuring one, it counts what
/// it needs and looks at no data.
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix& a, const Matrix& b, const Matrix& c,
          Workspace memory, double alpha = 1, double beta = 0, const RowBias& bias = {});

namespace gemm_detail {

/// One product as its implementations are given it; all sizes are positive.
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  Matrix a, b, c;
  double alpha = 1, beta = 0;
  RowBias bias;
};

// The implementations, each with why it cannot take a product (empty: it can). Given a measuring workspace,
// they take what they need and return.

/// Few rows or few columns (at most kNarrowRows): bound by memory, so weights are converted in registers.
inline constexpr std::int64_t kNarrowRows = 8;
std::string narrow_supports(const Product& product);
void narrow(const Product& product, Workspace memory);

/// f32 operands as BLAS takes them, by the BLAS call of oneDNN, or of Accelerate on macOS.
std::string sgemm_supports(const Product& product);
void sgemm(const Product& product, Workspace memory = {});

/// bf16 a and b on the tile unit of recent Intel processors.
std::string amx_supports(const Product& product);
void amx(const Product& product, Workspace memory);

/// f32, or bf16 where the processor multiplies it, by oneDNN's matmul primitive.
std::string onednn_supports(const Product& product);
void onednn(const Product& product, Workspace memory = {});

/// Everything: blocks are converted to f32, multiplied by sgemm, and rounded once at the end.
void blocked(const Product& product, Workspace memory);

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
