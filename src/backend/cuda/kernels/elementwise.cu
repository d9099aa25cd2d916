#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/loops.cuh"

namespace candela::cuda {
namespace {

// The numbers of UnaryOp and BinaryOp in backend/args/elementwise.h; elementwise.cpp checks that they agree.
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

constexpr float kSqrtHalf = 0.70710678118654752440F;
constexpr float kSqrtTwoOverPi = 0.79788456080286535588F;
constexpr float kInverseSqrtTwoPi = 0.39894228040143267794F;

/// By the fast exponential, good to 2e-6 relative: the accurate one makes swiglu wait for arithmetic, not for
/// memory.
__device__ float sigmoid(float x) {
  return __fdividef(1.0F, 1.0F + __expf(-x));
}
/// Phi(x), the normal distribution.
__device__ float normal_cdf(float x) {
  return 0.5F * erfcf(-x * kSqrtHalf);
}
__device__ float normal_pdf(float x) {
  return expf(-0.5F * x * x) * kInverseSqrtTwoPi;
}
/// The argument of tanh in the approximation of GELU, sqrt(2 / pi) (x + 0.044715 x^3), and its slope.
__device__ float gelu_inner(float x) {
  return kSqrtTwoOverPi * (x + 0.044715F * x * x * x);
}
__device__ float gelu_inner_slope(float x) {
  return kSqrtTwoOverPi * (1.0F + 3.0F * 0.044715F * x * x);
}

__device__ float apply(int op, float x, float alpha, float beta) {
  switch (op) {
    case kAffine:
      return alpha * x + beta;
    case kExp:
      return expf(x);
    case kLog:
      return logf(x);
    case kSqrt:
      return sqrtf(x);
    case kRsqrt:
      return 1.0F / sqrtf(x);
    case kReciprocal:
      return 1.0F / x;
    case kSquare:
      return x * x;
    case kAbs:
      return fabsf(x);
    case kTanh:
      return tanhf(x);
    case kSigmoid:
      return sigmoid(x);
    case kRelu:
      return x > 0.0F || isnan(x) ? x : 0.0F;
    case kSilu:
      return x * sigmoid(x);
    case kGelu:
      return x * normal_cdf(x);
    default:
      return 0.5F * x * (1.0F + tanhf(gelu_inner(x)));
  }
}

/// The derivative of silu at x, whose sigmoid is s.
__device__ float silu_slope(float x, float s) {
  return s * (1.0F + x * (1.0F - s));
}

__device__ float slope(int op, float x, float alpha) {
  switch (op) {
    case kAffine:
      return alpha;
    case kExp:
      return expf(x);
    case kLog:
      return 1.0F / x;
    case kSqrt:
      return 0.5F / sqrtf(x);
    case kRsqrt:
      return -0.5F / (x * sqrtf(x));
    case kReciprocal:
      return -1.0F / (x * x);
    case kSquare:
      return 2.0F * x;
    case kAbs:
      return x > 0.0F ? 1.0F : (x < 0.0F ? -1.0F : 0.0F);
    case kTanh: {
      const float y = tanhf(x);
      return 1.0F - y * y;
    }
    case kSigmoid: {
      const float y = sigmoid(x);
      return y * (1.0F - y);
    }
    case kRelu:
      return x > 0.0F ? 1.0F : 0.0F;
    case kSilu:
      return silu_slope(x, sigmoid(x));
    case kGelu:
      return normal_cdf(x) + x * normal_pdf(x);
    default: {
      const float t = tanhf(gelu_inner(x));
      return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * gelu_inner_slope(x);
    }
  }
}

__device__ float combine(int op, float a, float b) {
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
      return a > b || isnan(a) ? a : b;
    case kMinimum:
      return a < b || isnan(a) ? a : b;
    case kEqual:
      return a == b ? 1.0F : 0.0F;
    case kGreater:
      return a > b ? 1.0F : 0.0F;
    case kGreaterEqual:
      return a >= b ? 1.0F : 0.0F;
    default:
      return b != 0.0F ? a : 0.0F;
  }
}

struct UnaryBody {
  int op;
  float alpha, beta;
  __device__ void operator()(float* v) const { v[0] = apply(op, v[1], alpha, beta); }
};
struct UnaryGradBody {
  int op;
  float alpha;
  __device__ void operator()(float* v) const { v[0] = v[2] * slope(op, v[1], alpha); }
};
struct BinaryBody {
  int op;
  __device__ void operator()(float* v) const { v[0] = combine(op, v[1], v[2]); }
};
struct SwigluBody {
  __device__ void operator()(float* v) const { v[0] = v[1] * sigmoid(v[1]) * v[2]; }
};
struct SwigluGradBody {
  __device__ void operator()(float* v) const {
    const float s = sigmoid(v[2]);
    v[0] = v[4] * v[3] * silu_slope(v[2], s);
    v[1] = v[4] * (v[2] * s);
  }
};

struct GegluBody {
  int op;
  __device__ void operator()(float* v) const { v[0] = apply(op, v[1], 1, 0) * v[2]; }
};
struct GegluGradBody {
  int op;
  __device__ void operator()(float* v) const {
    const float gate = v[2];
    v[0] = v[4] * v[3] * slope(op, gate, 1);
    v[1] = v[4] * apply(op, gate, 1, 0);
  }
};

}  // namespace

cudaError_t launch_geglu(const LoopParams<3>& loops, Type type, int op, cudaStream_t stream) {
  return launch_loop<1>(loops, type, stream, GegluBody{op});
}
cudaError_t launch_geglu_grad(const LoopParams<5>& loops, Type type, int op, cudaStream_t stream) {
  return launch_loop<2>(loops, type, stream, GegluGradBody{op});
}
cudaError_t launch_unary(const LoopParams<2>& loops, Type type, int op, float alpha, float beta,
                         cudaStream_t stream) {
  return launch_loop<1>(loops, type, stream, UnaryBody{op, alpha, beta});
}
cudaError_t launch_unary_grad(const LoopParams<3>& loops, Type type, int op, float alpha,
                              cudaStream_t stream) {
  return launch_loop<1>(loops, type, stream, UnaryGradBody{op, alpha});
}
cudaError_t launch_binary(const LoopParams<3>& loops, Type type, int op, cudaStream_t stream) {
  return launch_loop<1>(loops, type, stream, BinaryBody{op});
}
cudaError_t launch_swiglu(const LoopParams<3>& loops, Type type, cudaStream_t stream) {
  return launch_loop<1>(loops, type, stream, SwigluBody{});
}
cudaError_t launch_swiglu_grad(const LoopParams<5>& loops, Type type, cudaStream_t stream) {
  return launch_loop<2>(loops, type, stream, SwigluGradBody{});
}

}  // namespace candela::cuda
