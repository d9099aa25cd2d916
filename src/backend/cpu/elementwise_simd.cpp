#include <algorithm>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/elementwise_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

/// The argument of tanh in the approximation of GELU, doubled: 2 sqrt(2 / pi) (x + 0.044715 x^3). x (1 +
/// tanh(u)) / 2 = x sigmoid(2 u).
HWY_INLINE Vec gelu_argument(Vec x) {
  const auto cube = hn::Mul(hn::Mul(x, x), x);
  return hn::Mul(splat(1.5957691216057308F), hn::MulAdd(splat(0.044715F), cube, x));
}
HWY_INLINE Vec gelu_argument_slope(Vec x) {
  return hn::Mul(splat(1.5957691216057308F), hn::MulAdd(splat(0.134145F), hn::Mul(x, x), splat(1.0F)));
}

/// s (1 - s) for s = sigmoid(x), from the side where s is small and exact.
HWY_INLINE Vec sigmoid_slope(Vec x) {
  const auto s = sigmoid(hn::Neg(hn::Abs(x)));
  return hn::Mul(s, hn::Sub(splat(1.0F), s));
}

template <UnaryOp op>
struct Apply {
  Vec alpha, beta;
  HWY_INLINE Vec operator()(Vec x) const {
    const auto one = splat(1.0F);
    if constexpr (op == UnaryOp::Affine) return hn::MulAdd(alpha, x, beta);
    if constexpr (op == UnaryOp::Exp) return exp(x);
    if constexpr (op == UnaryOp::Log) return log(x);
    if constexpr (op == UnaryOp::Sqrt) return hn::Sqrt(x);
    if constexpr (op == UnaryOp::Rsqrt) return hn::Div(one, hn::Sqrt(x));
    if constexpr (op == UnaryOp::Reciprocal) return hn::Div(one, x);
    if constexpr (op == UnaryOp::Square) return hn::Mul(x, x);
    if constexpr (op == UnaryOp::Abs) return hn::Abs(x);
    if constexpr (op == UnaryOp::Tanh) return tanh(x);
    if constexpr (op == UnaryOp::Sigmoid) return sigmoid(x);
    if constexpr (op == UnaryOp::Relu) return hn::IfThenElse(hn::Le(x, splat(0.0F)), splat(0.0F), x);
    if constexpr (op == UnaryOp::Silu) return hn::Mul(x, sigmoid(x));
    if constexpr (op == UnaryOp::Gelu) return hn::Mul(x, normal_cdf(x));
    if constexpr (op == UnaryOp::GeluTanh) return hn::Mul(x, sigmoid(gelu_argument(x)));
  }
};

template <UnaryOp op>
HWY_INLINE Vec slope(Vec x, Vec alpha) {
  const auto one = splat(1.0F);
  const auto zero = splat(0.0F);
  if constexpr (op == UnaryOp::Affine) return alpha;
  if constexpr (op == UnaryOp::Exp) return exp(x);
  if constexpr (op == UnaryOp::Log) return hn::Div(one, x);
  if constexpr (op == UnaryOp::Sqrt) return hn::Div(splat(0.5F), hn::Sqrt(x));
  if constexpr (op == UnaryOp::Rsqrt) return hn::Div(splat(-0.5F), hn::Mul(x, hn::Sqrt(x)));
  if constexpr (op == UnaryOp::Reciprocal) return hn::Div(splat(-1.0F), hn::Mul(x, x));
  if constexpr (op == UnaryOp::Square) return hn::Add(x, x);
  if constexpr (op == UnaryOp::Abs) {
    return hn::IfThenElse(hn::Gt(x, zero), one, hn::IfThenElseZero(hn::Lt(x, zero), splat(-1.0F)));
  }
  if constexpr (op == UnaryOp::Tanh) return hn::Mul(splat(4.0F), sigmoid_slope(hn::Add(x, x)));
  if constexpr (op == UnaryOp::Sigmoid) return sigmoid_slope(x);
  if constexpr (op == UnaryOp::Relu) return hn::IfThenElseZero(hn::Gt(x, zero), one);
  if constexpr (op == UnaryOp::Silu) {
    const auto y = sigmoid(x);
    return hn::Mul(y, hn::MulAdd(x, hn::Sub(one, y), one));
  }
  if constexpr (op == UnaryOp::Gelu) return hn::MulAdd(x, normal_pdf(x), normal_cdf(x));
  if constexpr (op == UnaryOp::GeluTanh) {
    const auto u = gelu_argument(x);
    return hn::MulAdd(hn::Mul(x, sigmoid_slope(u)), gelu_argument_slope(x), sigmoid(u));
  }
}

template <UnaryOp op>
struct ApplyGrad {
  Vec alpha;
  HWY_INLINE Vec operator()(Vec x, Vec dy) const { return hn::Mul(dy, slope<op>(x, alpha)); }
};

template <BinaryOp op>
struct Combine {
  HWY_INLINE Vec operator()(Vec a, Vec b) const {
    const auto one = splat(1.0F);
    if constexpr (op == BinaryOp::Add) return hn::Add(a, b);
    if constexpr (op == BinaryOp::Sub) return hn::Sub(a, b);
    if constexpr (op == BinaryOp::Mul) return hn::Mul(a, b);
    if constexpr (op == BinaryOp::Div) return hn::Div(a, b);
    if constexpr (op == BinaryOp::Maximum) return max_or_nan(a, b);
    if constexpr (op == BinaryOp::Minimum) return min_or_nan(a, b);
    if constexpr (op == BinaryOp::Equal) return hn::IfThenElseZero(hn::Eq(a, b), one);
    if constexpr (op == BinaryOp::Greater) return hn::IfThenElseZero(hn::Gt(a, b), one);
    if constexpr (op == BinaryOp::GreaterEqual) return hn::IfThenElseZero(hn::Ge(a, b), one);
    if constexpr (op == BinaryOp::Where) return hn::IfThenZeroElse(hn::Eq(b, splat(0.0F)), a);
  }
};

/// Calls body.operator()<op>() for the run-time `op`.
template <class F>
void with_op(UnaryOp op, F&& body) {
  switch (op) {
    case UnaryOp::Affine:
      return body.template operator()<UnaryOp::Affine>();
    case UnaryOp::Exp:
      return body.template operator()<UnaryOp::Exp>();
    case UnaryOp::Log:
      return body.template operator()<UnaryOp::Log>();
    case UnaryOp::Sqrt:
      return body.template operator()<UnaryOp::Sqrt>();
    case UnaryOp::Rsqrt:
      return body.template operator()<UnaryOp::Rsqrt>();
    case UnaryOp::Reciprocal:
      return body.template operator()<UnaryOp::Reciprocal>();
    case UnaryOp::Square:
      return body.template operator()<UnaryOp::Square>();
    case UnaryOp::Abs:
      return body.template operator()<UnaryOp::Abs>();
    case UnaryOp::Tanh:
      return body.template operator()<UnaryOp::Tanh>();
    case UnaryOp::Sigmoid:
      return body.template operator()<UnaryOp::Sigmoid>();
    case UnaryOp::Relu:
      return body.template operator()<UnaryOp::Relu>();
    case UnaryOp::Silu:
      return body.template operator()<UnaryOp::Silu>();
    case UnaryOp::Gelu:
      return body.template operator()<UnaryOp::Gelu>();
    case UnaryOp::GeluTanh:
      return body.template operator()<UnaryOp::GeluTanh>();
  }
}

template <class F>
void with_op(BinaryOp op, F&& body) {
  switch (op) {
    case BinaryOp::Add:
      return body.template operator()<BinaryOp::Add>();
    case BinaryOp::Sub:
      return body.template operator()<BinaryOp::Sub>();
    case BinaryOp::Mul:
      return body.template operator()<BinaryOp::Mul>();
    case BinaryOp::Div:
      return body.template operator()<BinaryOp::Div>();
    case BinaryOp::Maximum:
      return body.template operator()<BinaryOp::Maximum>();
    case BinaryOp::Minimum:
      return body.template operator()<BinaryOp::Minimum>();
    case BinaryOp::Equal:
      return body.template operator()<BinaryOp::Equal>();
    case BinaryOp::Greater:
      return body.template operator()<BinaryOp::Greater>();
    case BinaryOp::GreaterEqual:
      return body.template operator()<BinaryOp::GreaterEqual>();
    case BinaryOp::Where:
      return body.template operator()<BinaryOp::Where>();
  }
}

// What a kernel does to one block of floats: chosen once per call, by op.
using UnarySpan = void (*)(const float* x, float* out, std::int64_t count, float alpha, float beta);
using UnaryGradSpan = void (*)(const float* x, const float* dy, float* dx, std::int64_t count, float alpha);
using BinarySpan = void (*)(const float* a, const float* b, float* out, std::int64_t count);

template <UnaryOp kOp>
void unary_span(const float* x, float* out, std::int64_t count, float alpha, float beta) {
  map(Apply<kOp>{splat(alpha), splat(beta)}, count, out, x);
}
template <UnaryOp kOp>
void unary_grad_span(const float* x, const float* dy, float* dx, std::int64_t count, float alpha) {
  map(ApplyGrad<kOp>{splat(alpha)}, count, dx, x, dy);
}
template <BinaryOp kOp>
void binary_span(const float* a, const float* b, float* out, std::int64_t count) {
  map(Combine<kOp>{}, count, out, a, b);
}

/// silu(gate) up.
struct Swiglu {
  HWY_INLINE Vec operator()(Vec gate, Vec up) const { return hn::Mul(hn::Mul(gate, sigmoid(gate)), up); }
  /// The gradients of gate (a) and up (b).
  HWY_INLINE VecPair grad(Vec gate, Vec up, Vec dy) const {
    const auto s = sigmoid(gate);
    const auto slope = hn::Mul(s, hn::MulAdd(gate, hn::Sub(splat(1.0F), s), splat(1.0F)));
    return {hn::Mul(hn::Mul(dy, up), slope), hn::Mul(hn::Mul(dy, gate), s)};
  }
};

/// gelu(gate) up, by either GELU.
template <UnaryOp kGelu>
struct Geglu {
  HWY_INLINE Vec operator()(Vec gate, Vec up) const { return hn::Mul(gelu(gate), up); }
  HWY_INLINE VecPair grad(Vec gate, Vec up, Vec dy) const {
    return {hn::Mul(hn::Mul(dy, up), slope<kGelu>(gate, splat(1.0F))), hn::Mul(dy, gelu(gate))};
  }

 private:
  static HWY_INLINE Vec gelu(Vec x) { return Apply<kGelu>{splat(1.0F), splat(0.0F)}(x); }
};

template <class Gated>
void gated_span(const float* gate, const float* up, float* out, std::int64_t count) {
  map(Gated{}, count, out, gate, up);
}
template <class Gated>
void gated_grad_span(const float* gate, const float* up, const float* dy, float* dgate, float* dup,
                     std::int64_t count) {
  const std::int64_t step = lanes();
  for (std::int64_t i = 0; i < count; i += step) {
    const std::int64_t left = count - i;
    const bool whole = left >= step;
    const auto g = whole ? load(gate + i) : load_some(gate + i, left);
    const auto u = whole ? load(up + i) : load_some(up + i, left);
    const auto d = whole ? load(dy + i) : load_some(dy + i, left);
    const VecPair slopes = Gated{}.grad(g, u, d);
    if (whole) {
      store(slopes.a, dgate + i);
      store(slopes.b, dup + i);
    } else {
      store_some(slopes.a, dgate + i, left);
      store_some(slopes.b, dup + i, left);
    }
  }
}

/// Runs `body(inputs, outputs, count)` on blocks of floats of the operands: the first `Outputs` of them are
/// written, the others read.
template <class T, int Outputs, int N, class Body>
void on_blocks(const TensorArg (&operands)[N], Body&& body) {
  const Loops<N> loops(operands);
  const int last = loops.rank - 1;
  const bool stream = streams(operands[0], operands[N - 1]) && streams(operands[0], operands[Outputs]);
  for_each_block(
      loops, kBlock, stream, [&](const std::int64_t(&at)[N], std::int64_t first, std::int64_t count) {
        alignas(64) float buffers[N][kBlock];
        const float* inputs[N];
        float* outputs[Outputs];
        T* targets[Outputs];
        for (int n = Outputs; n < N; ++n) {
          const std::int64_t stride = loops.strides[n][last];
          inputs[n] =
              read_floats(operands[n].template as<T>() + at[n] + first * stride, stride, count, buffers[n]);
        }
        for (int n = 0; n < Outputs; ++n) {
          const std::int64_t stride = loops.strides[n][last];
          targets[n] = operands[n].template as<T>() + at[n] + first * stride;
          outputs[n] = float_target(targets[n], stride, buffers[n], stream);
        }
        body(inputs + Outputs, outputs, count);
        for (int n = 0; n < Outputs; ++n)
          write_floats(outputs[n], targets[n], loops.strides[n][last], count, stream);
      });
}

void unary(const UnaryArgs& args) {
  UnarySpan span = nullptr;
  with_op(args.op, [&]<UnaryOp kOp>() { span = &unary_span<kOp>; });
  dispatch_floating(args.out.dtype, "unary", [&]<class T>() {
    on_blocks<T, 1>({args.out, args.x}, [&](const float* const* in, float* const* out, std::int64_t count) {
      span(in[0], out[0], count, static_cast<float>(args.alpha), static_cast<float>(args.beta));
    });
  });
}

void unary_grad(const UnaryGradArgs& args) {
  UnaryGradSpan span = nullptr;
  with_op(args.op, [&]<UnaryOp kOp>() { span = &unary_grad_span<kOp>; });
  dispatch_floating(args.dx.dtype, "unary_grad", [&]<class T>() {
    on_blocks<T, 1>({args.dx, args.x, args.dy},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      span(in[0], in[1], out[0], count, static_cast<float>(args.alpha));
                    });
  });
}

/// out = span(a, b), whole blocks at a time.
void on_pairs(const TensorArg& a, const TensorArg& b, const TensorArg& out, BinarySpan span) {
  dispatch_floating(out.dtype, "binary", [&]<class T>() {
    on_blocks<T, 1>({out, a, b}, [&](const float* const* in, float* const* to, std::int64_t count) {
      span(in[0], in[1], to[0], count);
    });
  });
}

void binary(const BinaryArgs& args) {
  BinarySpan span = nullptr;
  with_op(args.op, [&]<BinaryOp kOp>() { span = &binary_span<kOp>; });
  on_pairs(args.a, args.b, args.out, span);
}

void swiglu(const SwigluArgs& args) {
  on_pairs(args.gate, args.up, args.out, &gated_span<Swiglu>);
}

void geglu(const GegluArgs& args) {
  on_pairs(
      args.gate, args.up, args.out,
      args.gelu == UnaryOp::Gelu ? &gated_span<Geglu<UnaryOp::Gelu>> : &gated_span<Geglu<UnaryOp::GeluTanh>>);
}

/// The gradients of a gated unit, whole blocks at a time.
template <class Args, class Span>
void gated_grad(const Args& args, Span span) {
  dispatch_floating(args.dgate.dtype, "gated_grad", [&]<class T>() {
    on_blocks<T, 2>({args.dgate, args.dup, args.gate, args.up, args.dy},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      span(in[0], in[1], in[2], out[0], out[1], count);
                    });
  });
}

void swiglu_grad(const SwigluGradArgs& args) {
  gated_grad(args, &gated_grad_span<Swiglu>);
}

void geglu_grad(const GegluGradArgs& args) {
  gated_grad(args, args.gelu == UnaryOp::Gelu ? &gated_grad_span<Geglu<UnaryOp::Gelu>>
                                              : &gated_grad_span<Geglu<UnaryOp::GeluTanh>>);
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(unary);
HWY_EXPORT(unary_grad);
HWY_EXPORT(binary);
HWY_EXPORT(swiglu);
HWY_EXPORT(swiglu_grad);
HWY_EXPORT(geglu);
HWY_EXPORT(geglu_grad);

void run_unary(const UnaryArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(unary)(args);
}
void run_unary_grad(const UnaryGradArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(unary_grad)(args);
}
void run_binary(const BinaryArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(binary)(args);
}
void run_swiglu(const SwigluArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(swiglu)(args);
}
void run_swiglu_grad(const SwigluGradArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(swiglu_grad)(args);
}
void run_geglu(const GegluArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(geglu)(args);
}
void run_geglu_grad(const GegluGradArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(geglu_grad)(args);
}

std::string supports_unary(const UnaryArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_unary_grad(const UnaryGradArgs& args) {
  return refuse_f64(args.dx);
}
std::string supports_binary(const BinaryArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_swiglu(const SwigluArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_swiglu_grad(const SwigluGradArgs& args) {
  return refuse_f64(args.dgate);
}
std::string supports_geglu(const GegluArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_geglu_grad(const GegluGradArgs& args) {
  return refuse_f64(args.dgate);
}

}  // namespace

void fill_elementwise_simd(KernelTable& table) {
  table.unary.add("highway", supports_unary, run_unary);
  table.unary_grad.add("highway", supports_unary_grad, run_unary_grad);
  table.binary.add("highway", supports_binary, run_binary);
  table.swiglu.add("highway", supports_swiglu, run_swiglu);
  table.swiglu_grad.add("highway", supports_swiglu_grad, run_swiglu_grad);
  table.geglu.add("highway", supports_geglu, run_geglu);
  table.geglu_grad.add("highway", supports_geglu_grad, run_geglu_grad);
}

}  // namespace candela
#endif
