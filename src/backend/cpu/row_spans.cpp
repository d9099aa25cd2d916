#include "backend/cpu/row_spans.h"

#include <cmath>

#include <candela/core/random.h>

#include "backend/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/row_spans.cpp"
#include <hwy/foreach_target.h>
// highway.h after foreach_target.h

#include "backend/cpu/simd-inl.h"

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
void adamw(float* param, const float* grad, float* m, float* v, std::int64_t count,
           const spans::AdamwNumbers& numbers) {
  const auto beta1 = splat(numbers.beta1);
  const auto beta2 = splat(numbers.beta2);
  const auto rest1 = splat(numbers.rest1);
  const auto rest2 = splat(numbers.rest2);
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

HWY_EXPORT(adamw);
HWY_EXPORT(uniform);
HWY_EXPORT(box_muller);
HWY_EXPORT(keep_scaled);

namespace spans {

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
