#include "loops.h"

using namespace candela::shader;

// The numbers of UnaryOp and BinaryOp in backend/args/elementwise.h; the host checks that they agree.
enum Unary {
  kAffine,
  kExp,
  kLog,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kSquare,
  kAbs,
  kTanh,
  kSigmoid,
  kRelu,
  kSilu,
  kGelu,
  kGeluTanh
};
enum Binary { kAdd, kSub, kMul, kDiv, kMaximum, kMinimum, kEqual, kGreater, kGreaterEqual, kWhere };

inline float sigmoid(float x) {
  return 1.0f / (1.0f + exp(-x));
}

/// erfc(x) for x >= 0: below 1 by the series of erf with positive terms, e^(-x^2) sum 2^n x^(2n+1) /
/// (2n+1)!!; from 1 on by the continued fraction x + (1/2) / (x + (2/2) / (x + (3/2) / ...)), cut off after
/// 40 terms, where its error is below that of f32.
inline float erfc_positive(float x) {
  float decay = exp(-x * x);
  if (x < 1.0f) {
    float term = x;
    float sum = x;
    for (int n = 1; n < 16; ++n) {
      term *= 2.0f * x * x / static_cast<float>(2 * n + 1);
      sum += term;
    }
    return 1.0f - M_2_SQRTPI_F * decay * sum;
  }
  float fraction = x;
  for (int n = 40; n > 0; --n) fraction = x + 0.5f * static_cast<float>(n) / fraction;
  return 0.5f * M_2_SQRTPI_F * decay / fraction;
}

/// Phi(x), the normal distribution.
inline float normal_cdf(float x) {
  float tail = 0.5f * erfc_positive(fabs(x) * M_SQRT1_2_F);
  return x < 0.0f ? tail : 1.0f - tail;
}
inline float normal_pdf(float x) {
  return exp(-0.5f * x * x) * (0.5f * M_2_SQRTPI_F * M_SQRT1_2_F);
}

/// The argument of tanh in the approximation of GELU, sqrt(2 / pi) (x + 0.044715 x^3), and its slope.
inline float gelu_inner(float x) {
  return sqrt(M_2_PI_F) * (x + 0.044715f * x * x * x);
}
inline float gelu_inner_slope(float x) {
  return sqrt(M_2_PI_F) * (1.0f + 3.0f * 0.044715f * x * x);
}

inline float apply(uint op, float x, float alpha, float beta) {
  switch (op) {
    case kAffine:
      return alpha * x + beta;
    case kExp:
      return exp(x);
    case kLog:
      return log(x);
    case kSqrt:
      return sqrt(x);
    case kRsqrt:
      return 1.0f / sqrt(x);
    case kReciprocal:
      return 1.0f / x;
    case kSquare:
      return x * x;
    case kAbs:
      return fabs(x);
    case kTanh:
      return tanh(x);
    case kSigmoid:
      return sigmoid(x);
    case kRelu:
      return x > 0.0f || isnan(x) ? x : 0.0f;
    case kSilu:
      return x * sigmoid(x);
    case kGelu:
      return x * normal_cdf(x);
    default:
      return 0.5f * x * (1.0f + tanh(gelu_inner(x)));
  }
}

inline float slope(uint op, float x, float alpha) {
  switch (op) {
    case kAffine:
      return alpha;
    case kExp:
      return exp(x);
    case kLog:
      return 1.0f / x;
    case kSqrt:
      return 0.5f / sqrt(x);
    case kRsqrt:
      return -0.5f / (x * sqrt(x));
    case kReciprocal:
      return -1.0f / (x * x);
    case kSquare:
      return 2.0f * x;
    case kAbs:
      return x > 0.0f ? 1.0f : (x < 0.0f ? -1.0f : 0.0f);
    case kTanh: {
      float y = tanh(x);
      return 1.0f - y * y;
    }
    case kSigmoid: {
      float y = sigmoid(x);
      return y * (1.0f - y);
    }
    case kRelu:
      return x > 0.0f ? 1.0f : 0.0f;
    case kSilu: {
      float y = sigmoid(x);
      return y * (1.0f + x * (1.0f - y));
    }
    case kGelu:
      return normal_cdf(x) + x * normal_pdf(x);
    default: {
      float t = tanh(gelu_inner(x));
      return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * gelu_inner_slope(x);
    }
  }
}

inline float combine(uint op, float a, float b) {
  switch (op) {
    case kAdd:
      return a + b;
    case kSub:
      return a - b;
    case kMul:
      return a * b;
    case kDiv:
      return a / b;
    case kMaximum:
      return isnan(a) || a > b ? a : b;
    case kMinimum:
      return isnan(a) || a < b ? a : b;
    case kEqual:
      return a == b ? 1.0f : 0.0f;
    case kGreater:
      return a > b ? 1.0f : 0.0f;
    case kGreaterEqual:
      return a >= b ? 1.0f : 0.0f;
    default:
      return b != 0.0f ? a : 0.0f;
  }
}

template <class T>
[[kernel]] void unary(device T* out [[buffer(0)]], device const T* x [[buffer(1)]],
                      constant UnaryParams& p [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
  float value = to_float(x[loop_offset(p.loop, 1, at.y, at.x)]);
  out[loop_offset(p.loop, 0, at.y, at.x)] = from_float<T>(apply(p.op, value, p.alpha, p.beta));
}

template <class T>
[[kernel]] void unary_grad(device T* dx [[buffer(0)]], device const T* x [[buffer(1)]],
                           device const T* dy [[buffer(2)]], constant UnaryParams& p [[buffer(3)]],
                           uint2 at [[thread_position_in_grid]]) {
  float value = to_float(x[loop_offset(p.loop, 1, at.y, at.x)]);
  float gradient = to_float(dy[loop_offset(p.loop, 2, at.y, at.x)]);
  dx[loop_offset(p.loop, 0, at.y, at.x)] = from_float<T>(gradient * slope(p.op, value, p.alpha));
}

template <class T>
[[kernel]] void binary(device T* out [[buffer(0)]], device const T* a [[buffer(1)]],
                       device const T* b [[buffer(2)]], constant UnaryParams& p [[buffer(3)]],
                       uint2 at [[thread_position_in_grid]]) {
  float left = to_float(a[loop_offset(p.loop, 1, at.y, at.x)]);
  float right = to_float(b[loop_offset(p.loop, 2, at.y, at.x)]);
  out[loop_offset(p.loop, 0, at.y, at.x)] = from_float<T>(combine(p.op, left, right));
}

/// out = op(gate) up: SwiGLU where the op is SiLU, GeGLU where it is a GELU.
template <class T>
[[kernel]] void gated(device T* out [[buffer(0)]], device const T* gate [[buffer(1)]],
                      device const T* up [[buffer(2)]], constant GatedParams& p [[buffer(3)]],
                      uint2 at [[thread_position_in_grid]]) {
  float g = to_float(gate[loop_offset(p.loop, 1, at.y, at.x)]);
  float u = to_float(up[loop_offset(p.loop, 2, at.y, at.x)]);
  out[loop_offset(p.loop, 0, at.y, at.x)] = from_float<T>(apply(p.op, g, 1.0f, 0.0f) * u);
}

/// dgate = dy up op'(gate), dup = dy op(gate).
template <class T>
[[kernel]] void gated_grad(device T* dgate [[buffer(0)]], device T* dup [[buffer(1)]],
                           device const T* gate [[buffer(2)]], device const T* up [[buffer(3)]],
                           device const T* dy [[buffer(4)]], constant GatedParams& p [[buffer(5)]],
                           uint2 at [[thread_position_in_grid]]) {
  float g = to_float(gate[loop_offset(p.loop, 2, at.y, at.x)]);
  float u = to_float(up[loop_offset(p.loop, 3, at.y, at.x)]);
  float gradient = to_float(dy[loop_offset(p.loop, 4, at.y, at.x)]);
  dgate[loop_offset(p.loop, 0, at.y, at.x)] = from_float<T>(gradient * u * slope(p.op, g, 1.0f));
  dup[loop_offset(p.loop, 1, at.y, at.x)] = from_float<T>(gradient * apply(p.op, g, 1.0f, 0.0f));
}

template [[host_name("unary_f32")]] [[kernel]] decltype(unary<float>) unary<float>;
template [[host_name("unary_f16")]] [[kernel]] decltype(unary<half>) unary<half>;
template [[host_name("unary_bf16")]] [[kernel]] decltype(unary<bf16>) unary<bf16>;
template [[host_name("unary_grad_f32")]] [[kernel]] decltype(unary_grad<float>) unary_grad<float>;
template [[host_name("unary_grad_f16")]] [[kernel]] decltype(unary_grad<half>) unary_grad<half>;
template [[host_name("unary_grad_bf16")]] [[kernel]] decltype(unary_grad<bf16>) unary_grad<bf16>;
template [[host_name("binary_f32")]] [[kernel]] decltype(binary<float>) binary<float>;
template [[host_name("binary_f16")]] [[kernel]] decltype(binary<half>) binary<half>;
template [[host_name("binary_bf16")]] [[kernel]] decltype(binary<bf16>) binary<bf16>;
template [[host_name("gated_f32")]] [[kernel]] decltype(gated<float>) gated<float>;
template [[host_name("gated_f16")]] [[kernel]] decltype(gated<half>) gated<half>;
template [[host_name("gated_bf16")]] [[kernel]] decltype(gated<bf16>) gated<bf16>;
template [[host_name("gated_grad_f32")]] [[kernel]] decltype(gated_grad<float>) gated_grad<float>;
template [[host_name("gated_grad_f16")]] [[kernel]] decltype(gated_grad<half>) gated_grad<half>;
template [[host_name("gated_grad_bf16")]] [[kernel]] decltype(gated_grad<bf16>) gated_grad<bf16>;
