#pragma once

#include <cstdint>

#include <candela/core/tensor.h>

/// Elementwise ops. Floating dtypes; two operands share a dtype and a device and broadcast by NumPy's rule:
/// InvalidArgument where they do not. All have gradients (comparisons have none to give: they refuse nothing
/// and cut the graph).
namespace candela {

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
/// NaN in either gives NaN. The gradient goes to the one that was taken, to `a` where equal, to `b` where one
/// is NaN; the other gets 0.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);

/// alpha x + beta.
Tensor affine(const Tensor& x, double alpha, double beta);
Tensor neg(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor square(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor relu(const Tensor& x);
/// x sigmoid(x) (Elfwing et al., 2018).
Tensor silu(const Tensor& x);
/// x Phi(x) with the exact error function (Hendrycks & Gimpel, 2016).
Tensor gelu(const Tensor& x);
/// The tanh approximation of GELU.
Tensor gelu_tanh(const Tensor& x);
/// silu(gate) up, fused (Shazeer, 2020). Shapes equal.
Tensor swiglu(const Tensor& gate, const Tensor& up);
enum class GeluKind : std::uint8_t { Exact, Tanh };
/// gelu(gate) up, or with gelu_tanh, fused (Shazeer, 2020). Shapes equal.
Tensor geglu(const Tensor& gate, const Tensor& up, GeluKind kind = GeluKind::Tanh);

/// 1 where true, 0 where not, in the dtype of the inputs; no gradient flows.
Tensor equal(const Tensor& a, const Tensor& b);
Tensor greater(const Tensor& a, const Tensor& b);
Tensor greater_equal(const Tensor& a, const Tensor& b);

inline Tensor operator+(const Tensor& a, const Tensor& b) {
  return add(a, b);
}
inline Tensor operator-(const Tensor& a, const Tensor& b) {
  return sub(a, b);
}
inline Tensor operator*(const Tensor& a, const Tensor& b) {
  return mul(a, b);
}
inline Tensor operator/(const Tensor& a, const Tensor& b) {
  return div(a, b);
}
inline Tensor operator-(const Tensor& x) {
  return neg(x);
}
inline Tensor operator*(const Tensor& x, double factor) {
  return affine(x, factor, 0);
}
inline Tensor operator+(const Tensor& x, double term) {
  return affine(x, 1, term);
}

/// target += x, in place, outside autograd. Shapes equal; x, any dtype, is converted to target's, a floating
/// one. x may be a view of target's memory: it is read as it was before. Throws Unsupported if autograd
/// tracks target or x; InvalidArgument if elements of target share memory, or shapes or devices do not fit.
void add_(const Tensor& target, const Tensor& x);

}  // namespace candela
