#pragma once

#include <cstddef>
#include <cstdint>

/// The arithmetic of the stand-in's MPS kernels: plain C++ over strided row-major matrices. Everything is
/// computed in f32 and rounded once on the way out.
namespace emulator {

enum class Element : std::uint8_t { Float32, Float16, Int8, Int16, Uint32 };

/// Rows of `row_bytes` bytes each; the extent is the caller's affair.
struct MatrixView {
  std::byte* data = nullptr;
  std::size_t row_bytes = 0;
  Element type = Element::Float32;

  std::byte* row(std::size_t index) const { return data + index * row_bytes; }
};

float float_of_half(std::uint16_t bits);
/// Round to nearest, ties to even.
std::uint16_t half_of_float(float value);

struct GemmShape {
  bool transpose_a = false, transpose_b = false;
  std::size_t m = 0, n = 0, k = 0;
  float alpha = 1, beta = 0;
};

/// C[m, n] = alpha * op(A)[m, k] * op(B)[k, n] + beta * C. C is not read when beta is 0.
void gemm(const GemmShape& shape, const MatrixView& a, const MatrixView& b, const MatrixView& c);

/// Y = softmax (or its logarithm) of each row; X and Y may be the same.
void softmax(std::size_t rows, std::size_t columns, bool logarithm, const MatrixView& x, const MatrixView& y);

/// Puts 0 where Y is not-a-number.
void lose_nan(std::size_t rows, std::size_t columns, const MatrixView& y);

/// dX = Y * (dY - sum(dY * Y)).
void softmax_gradient(std::size_t rows, std::size_t columns, const MatrixView& dy, const MatrixView& y,
                      const MatrixView& dx);

/// The k largest of each row, largest first; of equals the higher column first. Not-a-number is passed over:
/// where that leaves fewer than k, the rest is minus infinity at column 2^32 - 1.
void top_k(std::size_t rows, std::size_t columns, std::size_t k, std::uint32_t index_offset,
           const MatrixView& x, const MatrixView& indices, const MatrixView& values);

}  // namespace emulator
