#include "backend/cpu/row_spans.h"

#include <cmath>

#include <candela/core/random.h>

#include "backend/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/row_spans.cpp"
#include <hwy/foreach_target.h>
// highway.h after foreach_target.h
#include <hwy/cache_control.h>

#include "backend/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela {
namespace HWY_NAMESPACE {

/// A vector at `x`, or the `left` elements that remain there.
HWY_INLINE Vec take(const float* x, std::int64_t left) {
  return HWY_LIKELY(left >= lanes()) ? load(x) : load_some(x, left);
}
HWY_INLINE void put(Vec value, float* out, std::int64_t left) {
  HWY_LIKELY(left >= lanes()) ? store(value, out) : store_some(value, out, left);
}
/// Zero in the lanes past `left`.
HWY_INLINE Vec cut(Vec value, std::int64_t left) {
  return HWY_LIKELY(left >= lanes())
             ? value
             : hn::IfThenElseZero(hn::FirstN(Floats(), static_cast<std::size_t>(left)), value);
}

/// The sum of term(i, left) over vectors starting at i: four running vectors over pieces of 16384 elements.
template <class F>
HWY_INLINE float sum_terms(std::int64_t count, const F& term) {
  constexpr std::int64_t kPiece = 1 << 14;
  const std::int64_t step = lanes();
  auto total = splat(0.0F);
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    const std::int64_t end = std::min(count, begin + kPiece);
    auto a = splat(0.0F);
    auto b = a;
    auto c = a;
    auto d = a;
    std::int64_t i = begin;
    for (; i + 4 * step <= end; i += 4 * step) {
      a = hn::Add(a, term(i, step));
      b = hn::Add(b, term(i + step, step));
      c = hn::Add(c, term(i + 2 * step, step));
      d = hn::Add(d, term(i + 3 * step, step));
    }
    for (; i < end; i += step) a = hn::Add(a, cut(term(i, end - i), end - i));
    total = hn::Add(total, hn::Add(hn::Add(a, b), hn::Add(c, d)));
  }
  return sum_lanes(total);
}

HWY_INLINE float largest(const float* x, std::int64_t count) {
  const std::int64_t step = lanes();
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  auto a = splat(kLowest);
  auto b = a;
  std::int64_t i = 0;
  // NaN need not win here: it comes back through the sum.
  for (; i + 2 * step <= count; i += 2 * step) {
    a = hn::Max(a, load(x + i));
    b = hn::Max(b, load(x + i + step));
  }
  for (; i < count; i += step) {
    a = hn::Max(a, count - i >= step ? load(x + i) : load_some(x + i, count - i, kLowest));
  }
  return hn::GetLane(hn::MaxOfLanes(Floats(), hn::Max(a, b)));
}

/// Asks for the element `count` behind x: the next row, while this one is worked on from the cache and memory
/// would rest. Past the last row it asks for what is not read, which does no harm.
HWY_INLINE void ask_for_next(const float* x, std::int64_t count) {
  hwy::Prefetch(x + count);
}

void softmax_row(const float* x, float* out, std::int64_t count, bool log) {
  const auto top = splat(largest(x, count));
  const std::int64_t step = lanes();
  if (log) {
    const float sum = sum_terms(count, [&](std::int64_t i, std::int64_t left) HWY_ATTR {
      ask_for_next(x + i, count);
      return exp(hn::Sub(take(x + i, left), top));
    });
    const auto shift = splat(std::log(sum));
    for (std::int64_t i = 0; i < count; i += step) {
      put(hn::Sub(hn::Sub(take(x + i, count - i), top), shift), out + i, count - i);
    }
    return;
  }
  const float sum = sum_terms(count, [&](std::int64_t i, std::int64_t left) HWY_ATTR {
    ask_for_next(x + i, count);
    const auto e = exp(hn::Sub(take(x + i, left), top));
    put(e, out + i, left);
    return e;
  });
  const auto scale = splat(1.0F / sum);
  for (std::int64_t i = 0; i < count; i += step) {
    put(hn::Mul(take(out + i, count - i), scale), out + i, count - i);
  }
}

/// With y rounded to a short float, sum(y) is not quite 1; dividing by it makes dx right to the rounding of
/// the small y, even where one y is nearly 1.
void softmax_grad_row(const float* y, const float* dy, float* dx, std::int64_t count, bool log) {
  const std::int64_t step = lanes();
  if (log) {
    const auto total = splat(
        sum_terms(count, [&](std::int64_t i, std::int64_t left) HWY_ATTR { return take(dy + i, left); }));
    for (std::int64_t i = 0; i < count; i += step) {
      const std::int64_t left = count - i;
      put(hn::NegMulAdd(exp(take(y + i, left)), total, take(dy + i, left)), dx + i, left);
    }
    return;
  }
  const float dot = sum_terms(count, [&](std::int64_t i, std::int64_t left)
                                         HWY_ATTR { return hn::Mul(take(y + i, left), take(dy + i, left)); });
  const float sum =
      sum_terms(count, [&](std::int64_t i, std::int64_t left) HWY_ATTR { return take(y + i, left); });
  const auto mean = splat(sum > 0 ? dot / sum : dot);
  for (std::int64_t i = 0; i < count; i += step) {
    const std::int64_t left = count - i;
    put(hn::Mul(take(y + i, left), hn::Sub(take(dy + i, left), mean)), dx + i, left);
  }
}

void add_exp(const float* x, const float* shift, float* total, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    put(hn::Add(take(total + i, left), exp(hn::Sub(take(x + i, left), take(shift + i, left)))), total + i,
        left);
  }
}

void softmax_columns(const float* x, const float* shift, const float* total, float* out, std::int64_t count,
                     bool log) {
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto moved = hn::Sub(take(x + i, left), take(shift + i, left));
    const auto t = take(total + i, left);
    put(log ? hn::Sub(moved, t) : hn::Div(exp(moved), t), out + i, left);
  }
}

void add_products(const float* a, const float* b, float* total, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    put(hn::MulAdd(take(a + i, left), take(b + i, left), take(total + i, left)), total + i, left);
  }
}

void softmax_grad_columns(const float* y, const float* dy, const float* total, float* dx, std::int64_t count,
                          bool log) {
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto out = take(y + i, left);
    const auto d = take(dy + i, left);
    const auto t = take(total + i, left);
    put(log ? hn::NegMulAdd(exp(out), t, d) : hn::Mul(out, hn::Sub(d, t)), dx + i, left);
  }
}

float centred_squares(const float* x, float mean, std::int64_t count) {
  const auto centre = splat(mean);
  return sum_terms(count, [&](std::int64_t i, std::int64_t left) HWY_ATTR {
    const auto moved = hn::Sub(take(x + i, left), centre);
    return hn::Mul(moved, moved);
  });
}

void scale_rows(const float* x, float scale, const float* weight, float* out, std::int64_t count) {
  const auto s = splat(scale);
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    ask_for_next(x + i, count);
    put(hn::Mul(hn::Mul(take(x + i, left), s), take(weight + i, left)), out + i, left);
  }
}

void normalize(const float* x, float mean, float scale, const float* weight, const float* bias, float* out,
               std::int64_t count) {
  const auto centre = splat(mean);
  const auto s = splat(scale);
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    ask_for_next(x + i, count);
    const auto unit = hn::Mul(hn::Sub(take(x + i, left), centre), s);
    put(hn::MulAdd(unit, take(weight + i, left), take(bias + i, left)), out + i, left);
  }
}

void norm_sums(const float* x, float mean, const float* weight, const float* dy, std::int64_t count, float* g,
               float* gx) {
  const auto centre = splat(mean);
  *g = sum_terms(count, [&](std::int64_t i, std::int64_t left)
                            HWY_ATTR { return hn::Mul(take(dy + i, left), take(weight + i, left)); });
  *gx = sum_terms(count, [&](std::int64_t i, std::int64_t left) HWY_ATTR {
    return hn::Mul(hn::Mul(take(dy + i, left), take(weight + i, left)), hn::Sub(take(x + i, left), centre));
  });
}

void norm_dx(const float* x, const float* weight, const float* dy, const float* extra, float* dx,
             const spans::NormSlopes& slopes, std::int64_t count) {
  const auto centre = splat(slopes.mean);
  const auto scale = splat(slopes.scale);
  const auto a = splat(slopes.a);
  const auto b = splat(slopes.b);
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto g = hn::Sub(hn::Mul(take(dy + i, left), take(weight + i, left)), a);
    const auto inner = hn::NegMulAdd(hn::Sub(take(x + i, left), centre), b, g);
    const auto more = extra == nullptr ? splat(0.0F) : take(extra + i, left);
    put(hn::MulAdd(scale, inner, more), dx + i, left);
  }
}

void norm_dweight(const float* x, float mean, float scale, const float* dy, float* total,
                  std::int64_t count) {
  const auto centre = splat(mean);
  const auto s = splat(scale);
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto unit = hn::Mul(hn::Sub(take(x + i, left), centre), s);
    put(hn::MulAdd(take(dy + i, left), unit, take(total + i, left)), total + i, left);
  }
}

void adamw(float* param, const float* grad, float* m, float* v, std::int64_t count,
           const spans::AdamwNumbers& numbers) {
  const auto beta1 = splat(numbers.beta1);
  const auto beta2 = splat(numbers.beta2);
  const auto rest1 = splat(1.0F - numbers.beta1);
  const auto rest2 = splat(1.0F - numbers.beta2);
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto g = hn::Mul(take(grad + i, left), splat(numbers.grad_scale));
    const auto new_m = hn::MulAdd(beta1, take(m + i, left), hn::Mul(rest1, g));
    const auto new_v = hn::MulAdd(beta2, take(v + i, left), hn::Mul(hn::Mul(rest2, g), g));
    const auto size = hn::MulAdd(splat(numbers.root), hn::Sqrt(new_v), splat(numbers.eps));
    const auto move = hn::Div(hn::Mul(splat(numbers.step), new_m), size);
    put(hn::Sub(hn::Mul(splat(numbers.keep), take(param + i, left)), move), param + i, left);
    put(new_m, m + i, left);
    put(new_v, v + i, left);
  }
}

#if HWY_TARGET == HWY_SCALAR
/// The baseline without vectors: one counter at a time.
HWY_INLINE void philox_blocks(std::uint64_t seed, std::uint64_t block, std::uint32_t* out) {
  const auto words = philox(seed, block, 0);
  std::copy(words.begin(), words.end(), out);
}
#else
using WordVec = hn::Vec<Words>;

/// The high and low halves of the 64-bit products of each lane with `factor`.
HWY_INLINE void multiply_wide(WordVec x, std::uint32_t factor, WordVec& high, WordVec& low) {
  const hn::Repartition<std::uint64_t, Words> wide;
  const auto f = hn::Set(Words(), factor);
  const auto even = hn::MulEven(x, f);
  const auto odd = hn::MulEven(hn::BitCast(Words(), hn::ShiftRight<32>(hn::BitCast(wide, x))), f);
  const auto low_half = hn::Set(wide, 0xffffffffULL);
  high = hn::BitCast(Words(), hn::Or(hn::ShiftRight<32>(even), hn::AndNot(low_half, odd)));
  low = hn::BitCast(Words(), hn::Or(hn::And(even, low_half), hn::ShiftLeft<32>(odd)));
}

/// Philox 4x32-10 (see core/random.h) for one counter per lane, counting up from `block`; the four words of
/// each counter follow one another in `out`.
HWY_INLINE void philox_blocks(std::uint64_t seed, std::uint64_t block, std::uint32_t* out) {
  std::uint32_t counter_low[kLaneBuffer];
  std::uint32_t counter_high[kLaneBuffer];
  for (std::int64_t i = 0; i < lanes(); ++i) {
    const std::uint64_t counter = block + static_cast<std::uint64_t>(i);
    counter_low[i] = static_cast<std::uint32_t>(counter);
    counter_high[i] = static_cast<std::uint32_t>(counter >> 32U);
  }
  auto c0 = hn::LoadU(Words(), counter_low);
  auto c1 = hn::LoadU(Words(), counter_high);
  auto c2 = hn::Zero(Words());
  auto c3 = c2;
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32U);
  for (int round = 0; round < 10; ++round) {
    auto high0 = c0;
    auto low0 = c0;
    auto high1 = c0;
    auto low1 = c0;
    multiply_wide(c0, 0xD2511F53U, high0, low0);
    multiply_wide(c2, 0xCD9E8D57U, high1, low1);
    c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(Words(), key0));
    c1 = low1;
    c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(Words(), key1));
    c3 = low0;
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, Words(), out);
}
#endif

void uniform(std::uint64_t seed, std::uint64_t offset, float* out, std::int64_t count) {
  std::uint32_t words[4 * kLaneBuffer];
  const std::int64_t batch = 4 * lanes();
  std::int64_t skip = static_cast<std::int64_t>(offset % 4);
  std::uint64_t block = offset / 4;
  for (std::int64_t done = 0; done < count;) {
    philox_blocks(seed, block, words);
    const std::int64_t usable = std::min(batch - skip, count - done);
    for (std::int64_t i = 0; i < usable; ++i) {
      out[done + i] = static_cast<float>(static_cast<std::int32_t>(words[skip + i] >> 8U)) * 0x1p-24F;
    }
    done += usable;
    skip = 0;
    block += static_cast<std::uint64_t>(lanes());
  }
}

/// cos(2 pi u) = sin(2 pi (1/4 - |u - round(u)|)), an odd polynomial on [-1/4, 1/4].
HWY_INLINE Vec cos_turns(Vec u) {
  const auto t = hn::Sub(splat(0.25F), hn::Abs(hn::Sub(u, hn::Round(u))));
  const auto s = hn::Mul(t, t);
  auto p = hn::MulAdd(splat(-14.394304275512695F), s, splat(42.009830474853516F));
  p = hn::MulAdd(p, s, splat(-76.70428466796875F));
  p = hn::MulAdd(p, s, splat(81.605224609375F));
  p = hn::MulAdd(p, s, splat(-41.34170150756836F));
  p = hn::MulAdd(p, s, splat(6.2831854820251465F));
  return hn::Mul(p, t);
}

void box_muller(const float* u, float* out, std::int64_t count, float mean, float stddev) {
  float even[kLaneBuffer];
  float odd[kLaneBuffer];
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = std::min(count - i, lanes());
    for (std::int64_t j = 0; j < lanes(); ++j) {
      even[j] = j < left ? u[2 * (i + j)] : 0.0F;
      odd[j] = j < left ? u[2 * (i + j) + 1] : 0.0F;
    }
    const auto radius = hn::Sqrt(hn::Mul(splat(-2.0F), log(hn::Sub(splat(1.0F), load(even)))));
    const auto value = hn::Mul(radius, cos_turns(load(odd)));
    put(hn::MulAdd(value, splat(stddev), splat(mean)), out + i, count - i);
  }
}

void keep_scaled(const float* x, const float* u, float* out, std::int64_t count, float p, float scale) {
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto kept = hn::Ge(take(u + i, left), splat(p));
    put(hn::IfThenElseZero(kept, hn::Mul(take(x + i, left), splat(scale))), out + i, left);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace candela
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {

HWY_EXPORT(softmax_row);
HWY_EXPORT(softmax_grad_row);
HWY_EXPORT(add_exp);
HWY_EXPORT(softmax_columns);
HWY_EXPORT(add_products);
HWY_EXPORT(softmax_grad_columns);
HWY_EXPORT(centred_squares);
HWY_EXPORT(scale_rows);
HWY_EXPORT(normalize);
HWY_EXPORT(norm_sums);
HWY_EXPORT(norm_dx);
HWY_EXPORT(norm_dweight);
HWY_EXPORT(adamw);
HWY_EXPORT(uniform);
HWY_EXPORT(box_muller);
HWY_EXPORT(keep_scaled);

namespace spans {

void softmax_row(const float* x, float* out, std::int64_t count, bool log) {
  HWY_DYNAMIC_DISPATCH(softmax_row)(x, out, count, log);
}
void softmax_grad_row(const float* y, const float* dy, float* dx, std::int64_t count, bool log) {
  HWY_DYNAMIC_DISPATCH(softmax_grad_row)(y, dy, dx, count, log);
}
void add_exp(const float* x, const float* shift, float* total, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(add_exp)(x, shift, total, count);
}
void softmax_columns(const float* x, const float* shift, const float* total, float* out, std::int64_t count,
                     bool log) {
  HWY_DYNAMIC_DISPATCH(softmax_columns)(x, shift, total, out, count, log);
}
void add_products(const float* a, const float* b, float* total, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(add_products)(a, b, total, count);
}
void softmax_grad_columns(const float* y, const float* dy, const float* total, float* dx, std::int64_t count,
                          bool log) {
  HWY_DYNAMIC_DISPATCH(softmax_grad_columns)(y, dy, total, dx, count, log);
}
float centred_squares(const float* x, float mean, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(centred_squares)(x, mean, count);
}
void scale_rows(const float* x, float scale, const float* weight, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(scale_rows)(x, scale, weight, out, count);
}
void normalize(const float* x, float mean, float scale, const float* weight, const float* bias, float* out,
               std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(normalize)(x, mean, scale, weight, bias, out, count);
}
NormSums norm_sums(const float* x, float mean, const float* weight, const float* dy, std::int64_t count) {
  NormSums sums{};
  HWY_DYNAMIC_DISPATCH(norm_sums)(x, mean, weight, dy, count, &sums.g, &sums.gx);
  return sums;
}
void norm_dx(const float* x, const float* weight, const float* dy, const float* extra, float* dx,
             NormSlopes slopes, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(norm_dx)(x, weight, dy, extra, dx, slopes, count);
}
void norm_dweight(const float* x, float mean, float scale, const float* dy, float* total,
                  std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(norm_dweight)(x, mean, scale, dy, total, count);
}
void adamw(float* param, const float* grad, float* m, float* v, std::int64_t count,
           const AdamwNumbers& numbers) {
  HWY_DYNAMIC_DISPATCH(adamw)(param, grad, m, v, count, numbers);
}
void uniform(std::uint64_t seed, std::uint64_t offset, float* out, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(uniform)(seed, offset, out, count);
}
void box_muller(const float* u, float* out, std::int64_t count, float mean, float stddev) {
  HWY_DYNAMIC_DISPATCH(box_muller)(u, out, count, mean, stddev);
}
void keep_scaled(const float* x, const float* u, float* out, std::int64_t count, float p, float scale) {
  HWY_DYNAMIC_DISPATCH(keep_scaled)(x, u, out, count, p, scale);
}

}  // namespace spans
}  // namespace candela
#endif
