// Vectors of f32 for the CPU kernels, compiled once per instruction set: loads and stores of f32, bf16 and
// f16 memory, and exp, log, tanh and the like. Include after foreach_target.h. No #pragma once: Highway
// includes this once per target.
#if defined(CANDELA_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CANDELA_SIMD_INL_H_
#undef CANDELA_SIMD_INL_H_
#else
#define CANDELA_SIMD_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <hwy/highway.h>
#include <limits>
#include <type_traits>

#include <candela/core/dtype.h>

HWY_BEFORE_NAMESPACE();
namespace candela {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Words = hn::RebindToUnsigned<Floats>;
using Ints = hn::RebindToSigned<Floats>;
using HalfWords = hn::Rebind<std::uint16_t, Floats>;
using Vec = hn::Vec<Floats>;
using Mask = hn::Mask<Floats>;

/// More lanes than any target has: the size of the buffers for partial vectors.
inline constexpr std::size_t kLaneBuffer = HWY_MAX_BYTES / sizeof(float);

HWY_INLINE Vec splat(float value) {
  return hn::Set(Floats(), value);
}
HWY_INLINE std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Floats()));
}

// Loads and stores of one vector of floats from memory of any floating type. Rounding is to nearest, ties to
// even, as in core/dtype.

HWY_INLINE Vec load(const float* x) {
  return hn::LoadU(Floats(), x);
}

HWY_INLINE Vec load(const BFloat16* x) {
  const auto bits = hn::LoadU(HalfWords(), reinterpret_cast<const std::uint16_t*>(x));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), bits)));
}

#if HWY_TARGET <= HWY_AVX2
// x86 with F16C converts by itself.
HWY_INLINE Vec load(const Float16* x) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(Floats(), hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(x)));
}
#else
HWY_INLINE Vec load(const Float16* x) {
  const auto bits = hn::PromoteTo(Words(), hn::LoadU(HalfWords(), reinterpret_cast<const std::uint16_t*>(x)));
  const Words w;
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(w, 0x8000U)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(w, 0x7fffU)));
  // The exponent bias differs by 112. A product with 2^112 mends it, for subnormals too; infinity and NaN
  // need the full exponent.
  const auto scaled = hn::BitCast(w, hn::Mul(hn::BitCast(Floats(), magnitude), splat(0x1p112F)));
  const auto special = hn::Gt(hn::BitCast(Ints(), magnitude), hn::Set(Ints(), 0x0f7fffff));
  const auto wide = hn::Or(scaled, hn::IfThenElseZero(hn::RebindMask(w, special), hn::Set(w, 0x7f800000U)));
  return hn::BitCast(Floats(), hn::Or(wide, sign));
}
#endif

HWY_INLINE void store(Vec value, float* out) {
  hn::StoreU(value, Floats(), out);
}

template <class V>
HWY_INLINE void store_half_words(V words, void* out) {
  // Saturation never applies: the words are below 2^16.
  hn::StoreU(hn::DemoteTo(HalfWords(), hn::BitCast(Ints(), words)), HalfWords(),
             static_cast<std::uint16_t*>(out));
}

/// The bits of `value` rounded to bf16 in the upper half of each lane; the lower half is to be cut off. NaN
/// stays NaN.
HWY_INLINE hn::Vec<Words> bf16_bits(Vec value) {
  const Words w;
  const auto bits = hn::BitCast(w, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(w, 1U));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(w, 0x7fffU)), odd);
  const auto quiet = hn::Or(bits, hn::Set(w, 0x400000U));
  return hn::IfThenElse(hn::RebindMask(w, hn::IsNaN(value)), quiet, rounded);
}

HWY_INLINE void store(Vec value, BFloat16* out) {
  store_half_words(hn::ShiftRight<16>(bf16_bits(value)), out);
}

#if HWY_TARGET <= HWY_AVX2
HWY_INLINE void store(Vec value, Float16* out) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  hn::StoreU(hn::DemoteTo(halves, value), halves, reinterpret_cast<hwy::float16_t*>(out));
}
#else
HWY_INLINE void store(Vec value, Float16* out) {
  const Words w;
  const Ints s;
  const auto bits = hn::BitCast(w, value);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(w, 0x8000U));
  const auto magnitude = hn::And(bits, hn::Set(w, 0x7fffffffU));
  const auto signed_magnitude = hn::BitCast(s, magnitude);
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(w, 1U));
  const auto normal = hn::ShiftRight<13>(
      hn::Sub(hn::Add(hn::Add(magnitude, hn::Set(w, 0xfffU)), odd), hn::Set(w, 0x38000000U)));
  // Subnormal: adding 0.5 aligns the ten bits, and the sum rounds to even.
  const auto aligned = hn::Add(hn::BitCast(Floats(), magnitude), splat(0.5F));
  const auto subnormal = hn::Sub(hn::BitCast(w, aligned), hn::Set(w, 0x3f000000U));
  const auto is_small = hn::RebindMask(w, hn::Lt(signed_magnitude, hn::Set(s, 0x38800000)));
  const auto is_infinite = hn::RebindMask(w, hn::Gt(signed_magnitude, hn::Set(s, 0x477fefff)));
  const auto is_nan = hn::RebindMask(w, hn::Gt(signed_magnitude, hn::Set(s, 0x7f800000)));
  auto result = hn::IfThenElse(is_small, subnormal, normal);
  result = hn::IfThenElse(is_infinite, hn::Set(w, 0x7c00U), result);
  result = hn::IfThenElse(is_nan, hn::Set(w, 0x7e00U), result);
  store_half_words(hn::Or(result, sign), out);
}
#endif

/// The first `count` (less than a vector) elements; the other lanes are `fill`.
template <class T>
HWY_INLINE Vec load_some(const T* x, std::int64_t count, float fill = 0) {
  T buffer[kLaneBuffer];
  std::fill(buffer, buffer + lanes(), T(fill));
  std::copy(x, x + count, buffer);
  return load(buffer);
}

template <class T>
HWY_INLINE void store_some(Vec value, T* out, std::int64_t count) {
  T buffer[kLaneBuffer];
  store(value, buffer);
  std::copy(buffer, buffer + count, out);
}

/// A vector at `x`, or the `left` elements that remain there.
HWY_INLINE Vec take(const float* x, std::int64_t left) {
  return HWY_LIKELY(left >= lanes()) ? load(x) : load_some(x, left);
}
HWY_INLINE void put(Vec value, float* out, std::int64_t left) {
  HWY_LIKELY(left >= lanes()) ? store(value, out) : store_some(value, out, left);
}

// Two vectors at once: what 16-bit floats come in. Which elements are in which vector is the type's own
// affair (bf16: even and odd elements, since a 32-bit lane holds one of each), so operands of one loop must
// be of one type, or be brought into its order by to_order().

struct VecPair {
  Vec a, b;
};

HWY_INLINE VecPair load2(const float* x) {
  return {load(x), load(x + lanes())};
}
HWY_INLINE VecPair load2(const Float16* x) {
  return {load(x), load(x + lanes())};
}
HWY_INLINE void store2(VecPair v, float* out) {
  store(v.a, out);
  store(v.b, out + lanes());
}
HWY_INLINE void store2(VecPair v, Float16* out) {
  store(v.a, out);
  store(v.b, out + lanes());
}
#if HWY_TARGET == HWY_SCALAR
// The baseline without vectors: pairs are just two elements.
inline constexpr bool kSplitsPairs = false;

HWY_INLINE VecPair load2(const BFloat16* x) {
  return {load(x), load(x + 1)};
}
HWY_INLINE void store2(VecPair v, BFloat16* out) {
  store(v.a, out);
  store(v.b, out + 1);
}
template <class T>
HWY_INLINE void stream2(VecPair v, T* out) {
  store2(v, out);
}
#else
/// Whether a pair of bf16 vectors is the even and the odd elements.
inline constexpr bool kSplitsPairs = true;
using ManyHalfWords = hn::Repartition<std::uint16_t, Words>;

HWY_INLINE VecPair load2(const BFloat16* x) {
  const Words w;
  const auto both = hn::BitCast(w, hn::LoadU(ManyHalfWords(), reinterpret_cast<const std::uint16_t*>(x)));
  return {hn::BitCast(Floats(), hn::ShiftLeft<16>(both)),
          hn::BitCast(Floats(), hn::And(both, hn::Set(w, 0xffff0000U)))};
}
HWY_INLINE hn::Vec<ManyHalfWords> bf16_pair(VecPair v) {
  const Words w;
  const auto odd = hn::And(bf16_bits(v.b), hn::Set(w, 0xffff0000U));
  return hn::BitCast(ManyHalfWords(), hn::Or(hn::ShiftRight<16>(bf16_bits(v.a)), odd));
}
HWY_INLINE void store2(VecPair v, BFloat16* out) {
  hn::StoreU(bf16_pair(v), ManyHalfWords(), reinterpret_cast<std::uint16_t*>(out));
}

/// As store2, past the caches; `out` must be aligned to a whole vector.
HWY_INLINE void stream2(VecPair v, float* out) {
  hn::Stream(v.a, Floats(), out);
  hn::Stream(v.b, Floats(), out + lanes());
}
HWY_INLINE void stream2(VecPair v, Float16* out) {
  // VecPair halves make one vector: streaming part of a line costs as much as streaming all of it.
  Float16 narrow[2 * kLaneBuffer];
  store2(v, narrow);
  hn::Stream(hn::LoadU(ManyHalfWords(), reinterpret_cast<const std::uint16_t*>(narrow)), ManyHalfWords(),
             reinterpret_cast<std::uint16_t*>(out));
}
HWY_INLINE void stream2(VecPair v, BFloat16* out) {
  hn::Stream(bf16_pair(v), ManyHalfWords(), reinterpret_cast<std::uint16_t*>(out));
}
#endif

/// How much of a pair of vectors a step of a loop covers: all, or the `count` elements that are left.
struct Whole {};
struct Part {
  std::int64_t count;
};

/// Calls body(i, Whole{}) for every whole pair of vectors in [0, count) and body(i, Part{...}) for what
/// remains.
template <class F>
HWY_INLINE void each_pair(std::int64_t count, const F& body) {
  const std::int64_t step = 2 * lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) body(i, Whole{});
  if (i < count) body(i, Part{count - i});
}

template <class T>
HWY_INLINE VecPair take2(const T* x, Whole, float = 0) {
  return load2(x);
}
template <class T>
HWY_INLINE VecPair take2(const T* x, Part part, float fill = 0) {
  T buffer[2 * kLaneBuffer];
  std::fill(buffer, buffer + 2 * lanes(), T(fill));
  std::copy(x, x + part.count, buffer);
  return load2(buffer);
}
template <class T>
HWY_INLINE void put2(VecPair v, T* out, Whole) {
  store2(v, out);
}
template <class T>
HWY_INLINE void put2(VecPair v, T* out, Part part) {
  T buffer[2 * kLaneBuffer];
  store2(v, buffer);
  std::copy(buffer, buffer + part.count, out);
}

/// As put2; past the caches if kStream.
template <bool kStream, class T>
HWY_INLINE void write2(VecPair v, T* out, Whole) {
  if constexpr (kStream) {
    stream2(v, out);
  } else {
    store2(v, out);
  }
}
template <bool kStream, class T>
HWY_INLINE void write2(VecPair v, T* out, Part part) {
  put2(v, out, part);
}

/// Prefetches the pair of vectors at x into the second-level cache: the next operand, while the current one
/// is worked on in the first-level cache and memory would idle. An address past the end of an operand is
/// harmless.
template <class T>
HWY_INLINE void prefetch(const T* x) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (std::int64_t i = 0; i < 2 * lanes(); i += kLine) __builtin_prefetch(x + i, 0, 2);
}

/// `count` rounded up to whole pairs of vectors.
HWY_INLINE std::int64_t whole_pairs(std::int64_t count) {
  return (count + 2 * lanes() - 1) / (2 * lanes()) * 2 * lanes();
}

/// Which element of 2 lanes() load2 of T brings to position `j` (first vector, then second).
template <class T>
HWY_INLINE std::int64_t element_at(std::int64_t j) {
  if constexpr (!kSplitsPairs || !std::is_same_v<T, BFloat16>) return j;
  return j < lanes() ? 2 * j : 2 * (j - lanes()) + 1;
}

/// A pair of vectors at x, in the order of T.
template <class T>
HWY_INLINE VecPair load_ordered(const float* x) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, BFloat16>) {
    VecPair v;
    hn::LoadInterleaved2(Floats(), x, v.a, v.b);
    return v;
  }
#endif
  return load2(x);
}
/// Back from that order.
template <class T>
HWY_INLINE void store_ordered(VecPair v, float* out) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, BFloat16>) return hn::StoreInterleaved2(v.a, v.b, Floats(), out);
#endif
  store2(v, out);
}

/// Floats in that order: `out`, padded with `fill` to whole pairs, from x [count].
template <class T>
HWY_INLINE void to_order(const float* x, float* out, std::int64_t count, float fill) {
  const std::int64_t step = 2 * lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store2(load_ordered<T>(x + i), out + i);
  for (std::int64_t j = 0; i < count && j < step; ++j) {
    const std::int64_t from = i + element_at<T>(j);
    out[i + j] = from < count ? x[from] : fill;
  }
}
/// Back from that order.
template <class T>
HWY_INLINE void from_order(const float* x, float* out, std::int64_t count) {
  const std::int64_t step = 2 * lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store_ordered<T>(load2(x + i), out + i);
  for (std::int64_t j = 0; i < count && j < step; ++j) {
    const std::int64_t to = i + element_at<T>(j);
    if (to < count) out[to] = x[i + j];
  }
}

/// `v` in the order of T, with zeros where the extent has no elements.
template <class T>
HWY_INLINE VecPair covered(VecPair v, Whole) {
  return v;
}
template <class T>
HWY_INLINE VecPair covered(VecPair v, Part part) {
  float values[2 * kLaneBuffer];
  store2(v, values);
  for (std::int64_t j = 0; j < 2 * lanes(); ++j) {
    if (element_at<T>(j) >= part.count) values[j] = 0;
  }
  return load2(values);
}

// Functions. Each is good to about one unit in the last place over the whole range unless said otherwise; NaN
// gives NaN.

/// e^x. On [-ln 2 / 2, ln 2 / 2] by 1 + r + r^2 P(r) with a minimax P; the power of two is applied in two
/// halves, so that results below the normal range come out right and those above become infinite.
HWY_INLINE Vec exp(Vec x) {
  const auto clamped = hn::Min(hn::Max(x, splat(-105.0F)), splat(89.5F));
  const auto n = hn::Round(hn::Mul(clamped, splat(1.44269504088896341F)));
  auto r = hn::NegMulAdd(n, splat(0.693359375F), clamped);
  r = hn::NegMulAdd(n, splat(-2.12194440e-4F), r);
  auto p = hn::MulAdd(splat(0.0013951711589F), r, splat(0.0083695994690F));
  p = hn::MulAdd(p, r, splat(0.0416661873459F));
  p = hn::MulAdd(p, r, splat(0.1666651219130F));
  p = hn::MulAdd(p, r, splat(0.5F));
  const auto y = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), splat(1.0F));
  const auto whole = hn::ConvertTo(Ints(), n);
  const auto half = hn::ShiftRight<1>(whole);
  const auto bias = hn::Set(Ints(), 127);
  const auto first = hn::BitCast(Floats(), hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto second = hn::BitCast(Floats(), hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(hn::Mul(y, first), second));
}

/// e^r on [-ln 2 / 2, ln 2 / 2], to T's precision, by the minimax polynomial that is 1 at 0: off by 1e-4
/// (bf16), 3e-6 (f16), 9e-8 (f32).
template <class T>
HWY_INLINE Vec exp_near_zero(Vec r) {
  auto p = r;
  if constexpr (std::is_same_v<T, float>) {
    p = hn::MulAdd(splat(0.008290272112F), r, splat(0.04189815962F));
    p = hn::MulAdd(p, r, splat(0.1666763813F));
    p = hn::MulAdd(p, r, splat(0.4999914784F));
    p = hn::MulAdd(p, r, splat(0.9999997063F));
  } else if constexpr (std::is_same_v<T, Float16>) {
    p = hn::MulAdd(splat(0.04151368296F), r, splat(0.1678759163F));
    p = hn::MulAdd(p, r, splat(0.5000301978F));
    p = hn::MulAdd(p, r, splat(0.9999667728F));
  } else {
    p = hn::MulAdd(splat(0.1651782986F), r, splat(0.5041344934F));
    p = hn::MulAdd(p, r, splat(1.00019623F));
  }
  return hn::MulAdd(p, r, splat(1.0F));
}

/// The larger of x and `low`; NaN stays. What Highway's Max makes of NaN is each target's own affair.
HWY_INLINE Vec at_least(float low, Vec x) {
#if HWY_ARCH_X86 && HWY_TARGET < HWY_EMU128
  return hn::Max(splat(low), x);  // the second operand, if either is NaN
#else
  return hn::IfThenElse(hn::Lt(x, splat(low)), splat(low), x);
#endif
}

/// What is left of x = n ln 2 + r, to T's precision.
template <class T>
HWY_INLINE Vec without_powers(Vec x, Vec n) {
  if constexpr (!std::is_same_v<T, float>) return hn::NegMulAdd(n, splat(0.69314718055994531F), x);
  return hn::NegMulAdd(n, splat(-2.12194440e-4F), hn::NegMulAdd(n, splat(0.693359375F), x));
}

/// e^x for x <= 0 (or slightly above), to T's precision: what softmax needs. Results below the smallest
/// normal number may be 0; that of -inf is.
template <class T = float>
HWY_INLINE Vec exp_nonpositive(Vec x) {
#if HWY_TARGET <= HWY_AVX3
  // Rounds and scales by 2^n in one instruction each. Above the bound, or NaN.
  const auto is_normal = _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-87.3365447F), _CMP_NLT_UQ);
  const Vec n{_mm512_roundscale_ps(hn::Mul(x, splat(1.44269504088896341F)).raw, 0)};
  return Vec{_mm512_maskz_scalef_ps(is_normal, exp_near_zero<T>(without_powers<T>(x, n)).raw, n.raw)};
#else
  // At the bound, 2^n comes out as 0.
  const auto safe = at_least(-88.03F, x);
  // Adding 1.5 2^23 rounds to a whole number, which is then in the sum's lowest bits.
  const auto shifter = splat(12582912.0F);
  const auto shifted = hn::MulAdd(safe, splat(1.44269504088896341F), shifter);
  const auto n = hn::Sub(shifted, shifter);
  const auto power = hn::Add(hn::ShiftLeft<23>(hn::BitCast(Ints(), shifted)), hn::Set(Ints(), 127 << 23));
  return hn::Mul(exp_near_zero<T>(without_powers<T>(safe, n)), hn::BitCast(Floats(), power));
#endif
}

/// ln x. The mantissa m in [sqrt(1/2), sqrt(2)) by 2 atanh(s) = 2 s + s^3 Q(s^2), s = (m - 1) / (m + 1).
HWY_INLINE Vec log(Vec x) {
  const auto is_tiny = hn::Lt(x, splat(0x1p-126F));
  const auto scaled = hn::IfThenElse(is_tiny, hn::Mul(x, splat(0x1p23F)), x);
  const auto bits = hn::BitCast(Ints(), scaled);
  // Subtracting the bits of sqrt(1/2) first makes the exponent that of the nearest power of two.
  const auto shifted = hn::Sub(bits, hn::Set(Ints(), 0x3f3504f3));
  const auto exponent = hn::ShiftRight<23>(shifted);
  const auto mantissa = hn::BitCast(Floats(), hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  const auto e = hn::Sub(hn::ConvertTo(Floats(), exponent), hn::IfThenElseZero(is_tiny, splat(23.0F)));
  const auto s = hn::Div(hn::Sub(mantissa, splat(1.0F)), hn::Add(mantissa, splat(1.0F)));
  const auto t = hn::Mul(s, s);
  auto q = hn::MulAdd(splat(0.2333863079548F), t, splat(0.2855050563812F));
  q = hn::MulAdd(q, t, splat(0.4000012576580F));
  q = hn::MulAdd(q, t, splat(0.6666666865349F));
  const auto low = hn::MulAdd(e, splat(-2.12194440e-4F), hn::Mul(hn::Mul(s, t), q));
  auto y = hn::MulAdd(e, splat(0.693359375F), hn::MulAdd(splat(2.0F), s, low));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  y = hn::IfThenElse(hn::Eq(x, splat(kInfinity)), x, y);
  y = hn::IfThenElse(hn::Eq(x, splat(0.0F)), splat(-kInfinity), y);
  y = hn::IfThenElse(hn::Lt(x, splat(0.0F)), splat(std::numeric_limits<float>::quiet_NaN()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

/// 1 / (1 + e^-x), small relative error on both sides.
HWY_INLINE Vec sigmoid(Vec x) {
  return hn::Div(splat(1.0F), hn::Add(splat(1.0F), exp(hn::Neg(x))));
}

/// Near zero an odd polynomial, elsewhere 1 - 2 / (e^(2|x|) + 1) with x's sign.
HWY_INLINE Vec tanh(Vec x) {
  const auto t = hn::Mul(x, x);
  auto p = hn::MulAdd(splat(0.0021227330435F), t, splat(-0.0081562651321F));
  p = hn::MulAdd(p, t, splat(0.0216926001012F));
  p = hn::MulAdd(p, t, splat(-0.0539453774691F));
  p = hn::MulAdd(p, t, splat(0.1333319544792F));
  p = hn::MulAdd(p, t, splat(-0.3333333134651F));
  const auto near_zero = hn::MulAdd(hn::Mul(x, t), p, x);
  const auto size = hn::Abs(x);
  const auto e = exp(hn::Add(size, size));
  const auto far = hn::Sub(splat(1.0F), hn::Div(splat(2.0F), hn::Add(e, splat(1.0F))));
  return hn::IfThenElse(hn::Lt(size, splat(0.625F)), near_zero, hn::CopySign(far, x));
}

/// Phi(x), the normal distribution function, to a few units in the last place on both sides (x NaN:
/// unspecified). With z = |x| / sqrt(2): erfc(z) = e^(-z^2) G / (1 + 2 z), where G is a polynomial in (z - 2)
/// / (z + 2).
HWY_INLINE Vec normal_cdf(Vec x) {
  const auto size = hn::Min(hn::Abs(x), splat(19.0F));
  const auto z = hn::Mul(size, splat(0.70710678118654752F));
  const auto two = splat(2.0F);
  const auto t = hn::Div(hn::Sub(z, two), hn::Add(z, two));
  auto g = hn::MulAdd(splat(8.218504808610305e-05F), t, splat(0.00017518707318231463F));
  g = hn::MulAdd(g, t, splat(-0.0004001788911409676F));
  g = hn::MulAdd(g, t, splat(-0.001426237286068499F));
  g = hn::MulAdd(g, t, splat(0.0012504631886258721F));
  g = hn::MulAdd(g, t, splat(0.008710796013474464F));
  g = hn::MulAdd(g, t, splat(-0.008030000142753124F));
  g = hn::MulAdd(g, t, splat(-0.05421803146600723F));
  g = hn::MulAdd(g, t, splat(0.16405093669891357F));
  g = hn::MulAdd(g, t, splat(-0.16603051126003265F));
  g = hn::MulAdd(g, t, splat(-0.09276381880044937F));
  g = hn::MulAdd(g, t, splat(1.2769783735275269F));
  const auto tail = hn::Mul(exp(hn::Mul(hn::Mul(size, size), splat(-0.5F))), g);
  const auto below = hn::Div(hn::Mul(splat(0.5F), tail), hn::MulAdd(two, z, splat(1.0F)));
  return hn::IfThenElse(hn::Lt(x, splat(0.0F)), below, hn::Sub(splat(1.0F), below));
}

/// The density of the normal distribution.
HWY_INLINE Vec normal_pdf(Vec x) {
  return hn::Mul(exp(hn::Mul(hn::Mul(x, x), splat(-0.5F))), splat(0.39894228040143268F));
}

/// The larger; NaN in either gives NaN.
HWY_INLINE Vec max_or_nan(Vec a, Vec b) {
  return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
}
HWY_INLINE Vec min_or_nan(Vec a, Vec b) {
  return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b);
}

/// The sum of all lanes, in an order that depends on the vector's width alone.
HWY_INLINE float sum_lanes(Vec x) {
  return hn::GetLane(hn::SumOfLanes(Floats(), x));
}

HWY_INLINE float sum_pair(VecPair v) {
  return sum_lanes(hn::Add(v.a, v.b));
}

/// Elements per run of an f32 sum, at most 128 per lane of a pair: the runs join in f64, so the error does
/// not grow with the length.
inline constexpr std::int64_t kSumPiece = std::min<std::int64_t>(4096, 256 * hn::MaxLanes(Floats()));

/// N sums over the pairs in [0, count): add(i, extent, sums) adds the terms of the pair at i to sums[N].
/// Every f32 sum along a row goes through here.
template <std::size_t N, class F>
HWY_INLINE std::array<double, N> sum_runs(std::int64_t count, const F& add) {
  std::array<double, N> totals{};
  for (std::int64_t first = 0; first < count; first += kSumPiece) {
    VecPair sums[N];
    for (VecPair& sum : sums) sum = {splat(0.0F), splat(0.0F)};
    each_pair(std::min(kSumPiece, count - first),
              [&](std::int64_t i, auto extent) HWY_ATTR { add(first + i, extent, sums); });
    for (std::size_t n = 0; n < N; ++n) totals[n] += static_cast<double>(sum_pair(sums[n]));
  }
  return totals;
}

/// The sum of term(i, extent) over the pairs in [0, count).
template <class F>
HWY_INLINE double sum_terms(std::int64_t count, const F& term) {
  return sum_runs<1>(count, [&](std::int64_t i, auto extent, VecPair(&sums)[1]) HWY_ATTR {
    const VecPair v = term(i, extent);
    sums[0] = {hn::Add(sums[0].a, v.a), hn::Add(sums[0].b, v.b)};
  })[0];
}

/// The largest lane.
HWY_INLINE float max_lanes(Vec x) {
  return hn::GetLane(hn::MaxOfLanes(Floats(), x));
}

/// The largest of `count` values, -inf if there is none. NaN may win or be passed over: where it matters, it
/// comes back through a sum.
template <class T>
HWY_INLINE float max_of_row(const T* x, std::int64_t count) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  auto a = splat(kLowest);
  auto b = a;
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    const VecPair v = take2(x + i, extent, kLowest);
    a = hn::Max(v.a, a);
    b = hn::Max(v.b, b);
  });
  return max_lanes(hn::Max(a, b));
}

}  // namespace HWY_NAMESPACE
}  // namespace candela
HWY_AFTER_NAMESPACE();

#endif
