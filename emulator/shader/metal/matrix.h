#pragma once
// Matrices of a thread's own: columns of vectors.

#include "math.h"

namespace metal {

template <class T, int Columns, int Rows>
struct matrix {
  using Column = vec<T, Rows>;
  Column columns[Columns];

  matrix() = default;
  /// Zero but for the diagonal.
  explicit matrix(T diagonal) {
    for (int c = 0; c < Columns; ++c) {
      columns[c] = Column(T(0.0f));
      if (c < Rows) columns[c][c] = diagonal;
    }
  }
  template <class... C>
  requires(sizeof...(C) == Columns && (std::convertible_to<C, Column> && ...)) matrix(const C&... values)
      : columns{Column(values)...} {}
  template <class U>
  requires(!std::same_as<T, U>) explicit matrix(const matrix<U, Columns, Rows>& other) {
    for (int c = 0; c < Columns; ++c) columns[c] = Column(other.columns[c]);
  }
  Column& operator[](std::size_t c) {
    if (c >= Columns) [[unlikely]]
      out_of_range(c);
    return columns[c];
  }
  const Column& operator[](std::size_t c) const {
    if (c >= Columns) [[unlikely]]
      out_of_range(c);
    return columns[c];
  }

 private:
  [[noreturn]] static void out_of_range(std::size_t c) {
    emulator::current_launch->fault("column " + std::to_string(static_cast<std::int64_t>(c)) +
                                    " of a matrix of " + std::to_string(Columns));
  }
};

template <class T, int C, int R>
matrix<T, C, R> operator+(const matrix<T, C, R>& a, const matrix<T, C, R>& b) {
  matrix<T, C, R> out;
  for (int c = 0; c < C; ++c) out.columns[c] = a.columns[c] + b.columns[c];
  return out;
}
template <class T, int C, int R>
matrix<T, C, R> operator-(const matrix<T, C, R>& a, const matrix<T, C, R>& b) {
  matrix<T, C, R> out;
  for (int c = 0; c < C; ++c) out.columns[c] = a.columns[c] - b.columns[c];
  return out;
}
template <class T, int C, int R>
matrix<T, C, R> operator*(const matrix<T, C, R>& a, std::type_identity_t<T> factor) {
  matrix<T, C, R> out;
  for (int c = 0; c < C; ++c) out.columns[c] = a.columns[c] * factor;
  return out;
}
template <class T, int C, int R>
matrix<T, C, R> operator*(std::type_identity_t<T> factor, const matrix<T, C, R>& a) {
  return a * factor;
}
template <class T, int C, int R>
vec<T, R> operator*(const matrix<T, C, R>& a, const std::type_identity_t<vec<T, C>>& v) {
  vec<T, R> out = a.columns[0] * v[0];
  for (int c = 1; c < C; ++c) out = out + a.columns[c] * v[c];
  return out;
}
template <class T, int C, int R, int N>
matrix<T, N, R> operator*(const matrix<T, C, R>& a, const matrix<T, N, C>& b) {
  matrix<T, N, R> out;
  for (int c = 0; c < N; ++c) out.columns[c] = a * b.columns[c];
  return out;
}
template <class T, int C, int R>
matrix<T, R, C> transpose(const matrix<T, C, R>& a) {
  matrix<T, R, C> out;
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < R; ++r) out.columns[r][c] = a.columns[c][r];
  }
  return out;
}

using float2x2 = matrix<float, 2, 2>;
using float2x4 = matrix<float, 2, 4>;
using float3x3 = matrix<float, 3, 3>;
using float4x4 = matrix<float, 4, 4>;
using half2x2 = matrix<half, 2, 2>;
using half2x4 = matrix<half, 2, 4>;
using half3x3 = matrix<half, 3, 3>;
using half4x4 = matrix<half, 4, 4>;

}  // namespace metal
