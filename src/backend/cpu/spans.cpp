#include "backend/cpu/spans.h"

#include <cstring>
#include <hwy/cache_control.h>

#include "backend/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/spans.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela {
namespace HWY_NAMESPACE {

const char* instruction_set() {
  return hwy::TargetName(HWY_TARGET);
}

template <class From, class To>
HWY_INLINE void convert_span(const From* x, To* out, std::int64_t count) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store(load(x + i), out + i);
  if (i < count) store_some(load_some(x + i, count - i), out + i, count - i);
}

void widen_bf16(const BFloat16* x, float* out, std::int64_t count) {
  convert_span(x, out, count);
}
void widen_f16(const Float16* x, float* out, std::int64_t count) {
  convert_span(x, out, count);
}
void narrow_bf16(const float* x, BFloat16* out, std::int64_t count) {
  convert_span(x, out, count);
}
void narrow_f16(const float* x, Float16* out, std::int64_t count) {
  convert_span(x, out, count);
}

void stream_copy(const void* from, void* to, std::size_t bytes) {
  const hn::ScalableTag<std::uint8_t> d;
  const std::size_t step = hn::Lanes(d);
  const auto* in = static_cast<const std::uint8_t*>(from);
  auto* out = static_cast<std::uint8_t*>(to);
  // Streaming stores need whole aligned vectors.
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(out) % step;
  const std::size_t head = std::min(bytes, misaligned == 0 ? 0 : step - misaligned);
  std::memcpy(out, in, head);
  std::size_t i = head;
  for (; i + step <= bytes; i += step) hn::Stream(hn::LoadU(d, in + i), d, out + i);
  std::memcpy(out + i, in + i, bytes - i);
}

/// out[i] = f(x[i]) for a functor on vectors.
template <class F>
HWY_INLINE void map(const float* x, float* out, std::int64_t count, const F& f) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store(f(load(x + i)), out + i);
  if (i < count) store_some(f(load_some(x + i, count - i)), out + i, count - i);
}

template <class F>
HWY_INLINE void map(const float* a, const float* b, float* out, std::int64_t count, const F& f) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store(f(load(a + i), load(b + i)), out + i);
  if (i < count) store_some(f(load_some(a + i, count - i), load_some(b + i, count - i)), out + i, count - i);
}

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
HWY_INLINE void with_op(UnaryOp op, F&& body) {
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
HWY_INLINE void with_op(BinaryOp op, F&& body) {
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

void unary(UnaryOp op, const float* x, float* out, std::int64_t count, float alpha, float beta) {
  with_op(op, [&]<UnaryOp kOp>() HWY_ATTR { map(x, out, count, Apply<kOp>{splat(alpha), splat(beta)}); });
}

void unary_grad(UnaryOp op, const float* x, const float* dy, float* dx, std::int64_t count, float alpha) {
  with_op(op, [&]<UnaryOp kOp>() HWY_ATTR { map(x, dy, dx, count, ApplyGrad<kOp>{splat(alpha)}); });
}

void binary(BinaryOp op, const float* a, const float* b, float* out, std::int64_t count) {
  with_op(op, [&]<BinaryOp kOp>() HWY_ATTR { map(a, b, out, count, Combine<kOp>{}); });
}

struct Swiglu {
  HWY_INLINE Vec operator()(Vec gate, Vec up) const { return hn::Mul(hn::Mul(gate, sigmoid(gate)), up); }
};

void swiglu(const float* gate, const float* up, float* out, std::int64_t count) {
  map(gate, up, out, count, Swiglu{});
}

void swiglu_grad(const float* gate, const float* up, const float* dy, float* dgate, float* dup,
                 std::int64_t count) {
  const std::int64_t step = lanes();
  for (std::int64_t i = 0; i < count; i += step) {
    const std::int64_t left = count - i;
    const bool whole = left >= step;
    const auto g = whole ? load(gate + i) : load_some(gate + i, left);
    const auto u = whole ? load(up + i) : load_some(up + i, left);
    const auto d = whole ? load(dy + i) : load_some(dy + i, left);
    const auto s = sigmoid(g);
    const auto slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(splat(1.0F), s), splat(1.0F)));
    const auto to_gate = hn::Mul(hn::Mul(d, u), slope);
    const auto to_up = hn::Mul(hn::Mul(d, g), s);
    if (whole) {
      store(to_gate, dgate + i);
      store(to_up, dup + i);
    } else {
      store_some(to_gate, dgate + i, left);
      store_some(to_up, dup + i, left);
    }
  }
}

template <ReduceOp op>
struct Fold {
  HWY_INLINE Vec operator()(Vec total, Vec x) const {
    if constexpr (op == ReduceOp::Sum) return hn::Add(total, x);
    if constexpr (op == ReduceOp::SumSquares) return hn::MulAdd(x, x, total);
    if constexpr (op == ReduceOp::Max) return max_or_nan(total, x);
    if constexpr (op == ReduceOp::Min) return min_or_nan(total, x);
  }
};

template <class F>
HWY_INLINE void with_op(ReduceOp op, F&& body) {
  switch (op) {
    case ReduceOp::Sum:
      return body.template operator()<ReduceOp::Sum>();
    case ReduceOp::SumSquares:
      return body.template operator()<ReduceOp::SumSquares>();
    case ReduceOp::Max:
      return body.template operator()<ReduceOp::Max>();
    case ReduceOp::Min:
      return body.template operator()<ReduceOp::Min>();
  }
}

HWY_INLINE float start_of(ReduceOp op) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return op == ReduceOp::Max ? -kInfinity : (op == ReduceOp::Min ? kInfinity : 0.0F);
}

template <ReduceOp op>
HWY_INLINE double sum_all(const float* x, std::int64_t count) {
  const hn::ScalableTag<double> f64;
  const hn::Rebind<float, hn::ScalableTag<double>> f32;
  const auto add = [&](auto total, std::int64_t i) HWY_ATTR {
    const auto v = hn::PromoteTo(f64, hn::LoadU(f32, x + i));
    return op == ReduceOp::SumSquares ? hn::MulAdd(v, v, total) : hn::Add(total, v);
  };
  const auto step = static_cast<std::int64_t>(hn::Lanes(f64));
  auto a = hn::Zero(f64);
  auto b = a;
  auto c = a;
  auto d = a;
  std::int64_t i = 0;
  for (; i + 4 * step <= count; i += 4 * step) {
    a = add(a, i);
    b = add(b, i + step);
    c = add(c, i + 2 * step);
    d = add(d, i + 3 * step);
  }
  for (; i + step <= count; i += step) a = add(a, i);
  double total = hn::GetLane(hn::SumOfLanes(f64, hn::Add(hn::Add(a, b), hn::Add(c, d))));
  for (; i < count; ++i) {
    const auto v = static_cast<double>(x[i]);
    total += op == ReduceOp::SumSquares ? v * v : v;
  }
  return total;
}

/// Four running vectors.
template <ReduceOp op>
HWY_INLINE float extreme_of(const float* x, std::int64_t count) {
  const Fold<op> fold;
  const auto start = splat(start_of(op));
  const std::int64_t step = lanes();
  auto a = start;
  auto b = start;
  auto c = start;
  auto d = start;
  std::int64_t i = 0;
  for (; i + 4 * step <= count; i += 4 * step) {
    a = fold(a, load(x + i));
    b = fold(b, load(x + i + step));
    c = fold(c, load(x + i + 2 * step));
    d = fold(d, load(x + i + 3 * step));
  }
  for (; i + step <= count; i += step) a = fold(a, load(x + i));
  if (i < count) b = fold(b, load_some(x + i, count - i, start_of(op)));
  float values[kLaneBuffer];
  store(fold(fold(a, b), fold(c, d)), values);
  float result = values[0];
  for (i = 1; i < step; ++i) {
    const bool keep = result != result || (op == ReduceOp::Max ? result > values[i] : result < values[i]);
    if (!keep) result = values[i];
  }
  return result;
}

double reduce(ReduceOp op, const float* x, std::int64_t count) {
  double result = 0;
  with_op(op, [&]<ReduceOp kOp>() HWY_ATTR {
    if constexpr (kOp == ReduceOp::Sum || kOp == ReduceOp::SumSquares) {
      result = sum_all<kOp>(x, count);
    } else {
      result = static_cast<double>(extreme_of<kOp>(x, count));
    }
  });
  return result;
}

void fold(ReduceOp op, const float* x, float* total, std::int64_t count) {
  with_op(op, [&]<ReduceOp kOp>() HWY_ATTR { map(total, x, total, count, Fold<kOp>{}); });
}

std::int64_t find_first(const float* x, std::int64_t count, float value) {
  const std::int64_t step = lanes();
  const auto wanted = splat(value);
  const bool nan = value != value;
  std::int64_t i = 0;
  for (; i + step <= count; i += step) {
    const auto here = load(x + i);
    const auto hit = nan ? hn::IsNaN(here) : hn::Eq(here, wanted);
    const auto at = hn::FindFirstTrue(Floats(), hit);
    if (at >= 0) return i + static_cast<std::int64_t>(at);
  }
  for (; i < count; ++i) {
    if (nan ? x[i] != x[i] : x[i] == value) return i;
  }
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace candela
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {

HWY_EXPORT(instruction_set);
HWY_EXPORT(widen_bf16);
HWY_EXPORT(widen_f16);
HWY_EXPORT(narrow_bf16);
HWY_EXPORT(narrow_f16);
HWY_EXPORT(stream_copy);
HWY_EXPORT(unary);
HWY_EXPORT(unary_grad);
HWY_EXPORT(binary);
HWY_EXPORT(swiglu);
HWY_EXPORT(swiglu_grad);
HWY_EXPORT(reduce);
HWY_EXPORT(fold);
HWY_EXPORT(find_first);

namespace spans {

const char* instruction_set() {
  return HWY_DYNAMIC_DISPATCH(instruction_set)();
}

void stream_copy(const void* from, void* to, std::size_t bytes) {
  HWY_DYNAMIC_DISPATCH(stream_copy)(from, to, bytes);
}
void stream_fence() {
  hwy::FlushStream();
}
void widen(const BFloat16* x, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(widen_bf16)(x, out, count);
}
void widen(const Float16* x, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(widen_f16)(x, out, count);
}
void narrow(const float* x, BFloat16* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(narrow_bf16)(x, out, count);
}
void narrow(const float* x, Float16* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(narrow_f16)(x, out, count);
}

void unary(UnaryOp op, const float* x, float* out, std::int64_t count, float alpha, float beta) {
  HWY_DYNAMIC_DISPATCH(unary)(op, x, out, count, alpha, beta);
}
void unary_grad(UnaryOp op, const float* x, const float* dy, float* dx, std::int64_t count, float alpha) {
  HWY_DYNAMIC_DISPATCH(unary_grad)(op, x, dy, dx, count, alpha);
}
void binary(BinaryOp op, const float* a, const float* b, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(binary)(op, a, b, out, count);
}
void swiglu(const float* gate, const float* up, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(swiglu)(gate, up, out, count);
}
void swiglu_grad(const float* gate, const float* up, const float* dy, float* dgate, float* dup,
                 std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(swiglu_grad)(gate, up, dy, dgate, dup, count);
}
double reduce(ReduceOp op, const float* x, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(reduce)(op, x, count);
}
void fold(ReduceOp op, const float* x, float* total, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(fold)(op, x, total, count);
}
std::int64_t find_first(const float* x, std::int64_t count, float value) {
  return HWY_DYNAMIC_DISPATCH(find_first)(x, count, value);
}

}  // namespace spans
}  // namespace candela
#endif
