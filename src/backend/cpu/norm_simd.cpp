#include <cmath>

#include "backend/cpu/norm.h"
#include "backend/cpu/simd_targets.h"
#include "backend/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/norm_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela {
namespace HWY_NAMESPACE {

using norm_detail::LayerGradRow;
using norm_detail::Mode;
using norm_detail::Moments;
using norm_detail::RmsGradRow;
using norm_detail::RmsRow;

HWY_INLINE float inverse_root(double mean_square, double eps) {
  return static_cast<float>(1.0 / std::sqrt(mean_square + eps));
}

HWY_INLINE Two multiply(Two x, Two y) {
  return {hn::Mul(x.a, y.a), hn::Mul(x.b, y.b)};
}

/// As a T holds them: the stream that is normed is the one that is kept, so that it can be normed again.
template <class T>
HWY_INLINE Two rounded(Two v) {
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else {
    T narrow[2 * kLaneBuffer];
    store2(v, narrow);
    return load2(narrow);
  }
}

template <class T, bool kStream>
float rms_norm_row_as(const RmsRow& row, const float* weight, float* scratch, std::int64_t count,
                      double eps) {
  const auto* x = static_cast<const T*>(row.x);
  const auto* residual = static_cast<const T*>(row.residual);
  auto* out = static_cast<T*>(row.out);
  double squares = 0;
  if (residual == nullptr) {
    squares = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
      const Two v = take2(x + i, extent);
      return multiply(v, v);
    });
  } else {
    auto* sum = static_cast<T*>(row.sum);
    squares = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
      const Two v = take2(x + i, extent);
      const Two r = take2(residual + i, extent);
      const Two h = rounded<T>({hn::Add(v.a, r.a), hn::Add(v.b, r.b)});
      store2(h, scratch + i);
      write2<kStream>(h, sum + i, extent);
      return multiply(h, h);
    });
  }
  const float rstd = inverse_root(squares / static_cast<double>(count), eps);
  const auto scale = splat(rstd);
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(x + count + i);
    if (residual != nullptr) ask_for(residual + count + i);
    const Two h = residual == nullptr ? take2(x + i, extent) : load2(scratch + i);
    const Two w = load2(weight + i);
    write2<kStream>({hn::Mul(hn::Mul(h.a, scale), w.a), hn::Mul(hn::Mul(h.b, scale), w.b)}, out + i, extent);
  });
  return rstd;
}

template <class T, bool kStream>
void rms_norm_grad_row_as(const RmsGradRow& row, const float* weight, float* dweight, std::int64_t count) {
  const auto* h = static_cast<const T*>(row.h);
  const auto* dy = static_cast<const T*>(row.dy);
  const auto* dsum = static_cast<const T*>(row.dsum);
  auto* dx = static_cast<T*>(row.dx);
  const auto rstd = splat(row.rstd);
  const double gh = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    return multiply(multiply(take2(dy + i, extent), load2(weight + i)), take2(h + i, extent));
  });
  const auto c = splat(static_cast<float>(gh / static_cast<double>(count)) * row.rstd * row.rstd);
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(h + count + i);
    ask_for(dy + count + i);
    const Two v = take2(h + i, extent);
    const Two d = take2(dy + i, extent);
    const Two g = multiply(d, load2(weight + i));
    Two slope = {hn::Mul(rstd, hn::NegMulAdd(v.a, c, g.a)), hn::Mul(rstd, hn::NegMulAdd(v.b, c, g.b))};
    if (dsum != nullptr) {
      ask_for(dsum + count + i);
      const Two more = take2(dsum + i, extent);
      slope = {hn::Add(slope.a, more.a), hn::Add(slope.b, more.b)};
    }
    if (dweight != nullptr) {
      const Two total = load2(dweight + i);
      store2({hn::MulAdd(hn::Mul(d.a, v.a), rstd, total.a), hn::MulAdd(hn::Mul(d.b, v.b), rstd, total.b)},
             dweight + i);
    }
    write2<kStream>(slope, dx + i, extent);
  });
}

HWY_INLINE Two minus(Two x, Vec shift) {
  return {hn::Sub(x.a, shift), hn::Sub(x.b, shift)};
}

/// With a mean far from zero, what one float misses of it is not small against the deviations d = x - mean:
/// the mean of d is the rest, and is taken off too.
template <class T, bool kStream>
Moments layer_norm_row_as(const T* x, T* out, const float* weight, const float* bias, std::int64_t count,
                          double eps) {
  const auto width = static_cast<double>(count);
  const double sum =
      sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR { return take2(x + i, extent); });
  const auto mean = static_cast<float>(sum / width);
  const auto high = splat(mean);
  double deviation = 0;
  double squares = 0;
  for (std::int64_t first = 0; first < count; first += kSumPiece) {
    const std::int64_t length = std::min(kSumPiece, count - first);
    Two square = {splat(0.0F), splat(0.0F)};
    deviation += sum_terms(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      const Two d = covered<T>(minus(take2(x + first + i, extent), high), extent);
      square = {hn::MulAdd(d.a, d.a, square.a), hn::MulAdd(d.b, d.b, square.b)};
      return d;
    });
    squares += static_cast<double>(sum_two(square));
  }
  const double low = deviation / width;
  const float rstd = inverse_root(squares / width - low * low, eps);
  const auto scale = splat(rstd);
  const auto rest = splat(static_cast<float>(low));
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(x + count + i);
    const Two d = minus(minus(take2(x + i, extent), high), rest);
    const Two w = load2(weight + i);
    const Two b = load2(bias + i);
    write2<kStream>({hn::MulAdd(hn::Mul(d.a, scale), w.a, b.a), hn::MulAdd(hn::Mul(d.b, scale), w.b, b.b)},
                    out + i, extent);
  });
  return {mean, rstd};
}

template <class T, bool kStream>
void layer_norm_grad_row_as(const LayerGradRow& row, const float* weight, float* dweight, float* dbias,
                            std::int64_t count) {
  const auto* x = static_cast<const T*>(row.x);
  const auto* dy = static_cast<const T*>(row.dy);
  auto* dx = static_cast<T*>(row.dx);
  const auto width = static_cast<double>(count);
  const auto high = splat(row.moments.mean);
  double deviation = 0;
  double g_sum = 0;
  double gd_sum = 0;
  for (std::int64_t first = 0; first < count; first += kSumPiece) {
    const std::int64_t length = std::min(kSumPiece, count - first);
    Two gs = {splat(0.0F), splat(0.0F)};
    Two gds = gs;
    deviation += sum_terms(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      const Two d = covered<T>(minus(take2(x + first + i, extent), high), extent);
      const Two g = multiply(take2(dy + first + i, extent), load2(weight + first + i));
      gs = {hn::Add(gs.a, g.a), hn::Add(gs.b, g.b)};
      gds = {hn::MulAdd(g.a, d.a, gds.a), hn::MulAdd(g.b, d.b, gds.b)};
      return d;
    });
    g_sum += static_cast<double>(sum_two(gs));
    gd_sum += static_cast<double>(sum_two(gds));
  }
  const double low = deviation / width;
  const double square = static_cast<double>(row.moments.rstd) * static_cast<double>(row.moments.rstd);
  const auto rest = splat(static_cast<float>(low));
  const auto rstd = splat(row.moments.rstd);
  const auto a = splat(static_cast<float>(g_sum / width));
  const auto b = splat(static_cast<float>((gd_sum - low * g_sum) / width * square));
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(x + count + i);
    ask_for(dy + count + i);
    const Two d = minus(minus(take2(x + i, extent), high), rest);
    const Two t = take2(dy + i, extent);
    const Two g = minus(multiply(t, load2(weight + i)), a);
    if (dweight != nullptr) {
      const Two total = load2(dweight + i);
      store2({hn::MulAdd(hn::Mul(t.a, d.a), rstd, total.a), hn::MulAdd(hn::Mul(t.b, d.b), rstd, total.b)},
             dweight + i);
    }
    if (dbias != nullptr) {
      const Two total = load2(dbias + i);
      store2({hn::Add(total.a, t.a), hn::Add(total.b, t.b)}, dbias + i);
    }
    write2<kStream>({hn::Mul(rstd, hn::NegMulAdd(d.a, b, g.a)), hn::Mul(rstd, hn::NegMulAdd(d.b, b, g.b))},
                    dx + i, extent);
  });
}

/// Calls body.operator()<T, kStream>() for what `mode` says.
template <class F>
HWY_INLINE auto with_mode(Mode mode, const F& body) {
  return dispatch_floating(mode.dtype, "norm", [&]<class T>() {
    return mode.stream ? body.template operator()<T, true>() : body.template operator()<T, false>();
  });
}

float rms_norm_row(Mode mode, const RmsRow& row, const float* weight, float* scratch, std::int64_t count,
                   double eps) {
  return with_mode(mode, [&]<class T, bool kStream>() {
    return rms_norm_row_as<T, kStream>(row, weight, scratch, count, eps);
  });
}

void rms_norm_grad_row(Mode mode, const RmsGradRow& row, const float* weight, float* dweight,
                       std::int64_t count) {
  with_mode(mode,
            [&]<class T, bool kStream>() { rms_norm_grad_row_as<T, kStream>(row, weight, dweight, count); });
}

Moments layer_norm_row(Mode mode, const void* x, void* out, const float* weight, const float* bias,
                       std::int64_t count, double eps) {
  return with_mode(mode, [&]<class T, bool kStream>() {
    return layer_norm_row_as<T, kStream>(static_cast<const T*>(x), static_cast<T*>(out), weight, bias, count,
                                         eps);
  });
}

void layer_norm_grad_row(Mode mode, const LayerGradRow& row, const float* weight, float* dweight,
                         float* dbias, std::int64_t count) {
  with_mode(mode, [&]<class T, bool kStream>() {
    layer_norm_grad_row_as<T, kStream>(row, weight, dweight, dbias, count);
  });
}

void to_row_order(DType dtype, const float* x, float* out, std::int64_t count) {
  dispatch_floating(dtype, "norm", [&]<class T>() { to_order<T>(x, out, count, 0); });
}

void from_row_order(DType dtype, const float* x, float* out, std::int64_t count) {
  dispatch_floating(dtype, "norm", [&]<class T>() { from_order<T>(x, out, count); });
}

}  // namespace HWY_NAMESPACE
}  // namespace candela
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::norm_detail {
namespace {

HWY_EXPORT(rms_norm_row);
HWY_EXPORT(rms_norm_grad_row);
HWY_EXPORT(layer_norm_row);
HWY_EXPORT(layer_norm_grad_row);
HWY_EXPORT(to_row_order);
HWY_EXPORT(from_row_order);

}  // namespace

float rms_norm_row(Mode mode, const RmsRow& row, const float* weight, float* scratch, std::int64_t count,
                   double eps) {
  return HWY_DYNAMIC_DISPATCH(rms_norm_row)(mode, row, weight, scratch, count, eps);
}
void rms_norm_grad_row(Mode mode, const RmsGradRow& row, const float* weight, float* dweight,
                       std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(rms_norm_grad_row)(mode, row, weight, dweight, count);
}
Moments layer_norm_row(Mode mode, const void* x, void* out, const float* weight, const float* bias,
                       std::int64_t count, double eps) {
  return HWY_DYNAMIC_DISPATCH(layer_norm_row)(mode, x, out, weight, bias, count, eps);
}
void layer_norm_grad_row(Mode mode, const LayerGradRow& row, const float* weight, float* dweight,
                         float* dbias, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(layer_norm_grad_row)(mode, row, weight, dweight, dbias, count);
}
void to_row_order(DType dtype, const float* x, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(to_row_order)(dtype, x, out, count);
}
void from_row_order(DType dtype, const float* x, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(from_row_order)(dtype, x, out, count);
}

}  // namespace candela::norm_detail
#endif
