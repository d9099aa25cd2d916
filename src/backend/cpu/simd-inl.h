// Loads and stores of f32, bf16 and f16 as vectors of f32, once per target. No #pragma once: foreach_target.h
// includes it again for each target.
#if defined(CANDELA_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CANDELA_SIMD_INL_H_
#undef CANDELA_SIMD_INL_H_
#else
#define CANDELA_SIMD_INL_H_
#endif

#include <cstring>
#include <hwy/highway.h>
#include <limits>

#include <candela/core/dtype.h>

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;
inline constexpr std::size_t kMaxLanes = hn::MaxLanes(F32());

/// A full vector of elements as f32.
HWY_INLINE VF load(F32 d, const float* p) {
  return hn::LoadU(d, p);
}
HWY_INLINE VF load(F32 d, const BFloat16* p) {
  const hn::Rebind<std::uint16_t, F32> d16;
  const hn::RebindToUnsigned<F32> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, &p->bits))));
}
HWY_INLINE VF load(F32 d, const Float16* p) {
  const hn::Rebind<hwy::float16_t, F32> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
}

HWY_INLINE void store(F32 d, VF v, float* p) {
  hn::StoreU(v, d, p);
}
/// Rounds to nearest, ties to even, as BFloat16(float) does; NaN stays NaN.
HWY_INLINE void store([[maybe_unused]] F32 d, VF v, BFloat16* p) {
  const hn::RebindToUnsigned<F32> d32;
  const hn::RebindToSigned<F32> di32;
  const hn::Rebind<std::uint16_t, F32> d16;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1U));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fffU)));
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000U));
  const auto result = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, hn::ShiftRight<16>(result))), d16, &p->bits);
}
HWY_INLINE void store([[maybe_unused]] F32 d, VF v, Float16* p) {
  const hn::Rebind<hwy::float16_t, F32> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
}

/// The first `count` < Lanes(d) elements; the other lanes are zero.
template <class T>
HWY_INLINE VF load_n(F32 d, const T* p, std::size_t count) {
  T buffer[kMaxLanes];
  std::memset(static_cast<void*>(buffer), 0, sizeof(buffer));
  std::memcpy(static_cast<void*>(buffer), p, count * sizeof(T));
  return load(d, buffer);
}
template <class T>
HWY_INLINE void store_n(F32 d, VF v, T* p, std::size_t count) {
  T buffer[kMaxLanes];
  store(d, v, buffer);
  std::memcpy(static_cast<void*>(p), buffer, count * sizeof(T));
}

/// exp(x) for x <= 0 to 2 units in the last place: 2^n p(r) with n = round(x / ln 2), r = x - n ln 2. Results
/// below the smallest normal number are 0; NaN stays.
HWY_INLINE VF exp_nonpositive(F32 d, VF x) {
  const hn::RebindToSigned<F32> di32;
  const VF lowest = hn::Set(d, -87.33F);
  const auto underflow = hn::Lt(x, lowest);
  const VF safe = hn::IfThenElse(underflow, lowest, x);
  const VF n = hn::Round(hn::Mul(safe, hn::Set(d, 1.44269504F)));
  VF r = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), safe);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), r);
  VF p = hn::Set(d, 1.9875691500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1F));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di32, n), hn::Set(di32, 127)));
  return hn::IfThenElse(underflow, hn::Zero(d), hn::Mul(p, hn::BitCast(d, exponent)));
}

HWY_INLINE float sum_of(F32 d, VF v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}
HWY_INLINE float max_of(F32 d, VF v) {
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

/// The largest of `count` values, NaN aside; -inf if there is none.
template <class T>
HWY_INLINE float max_of_row(const T* x, std::int64_t count) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  VF top = lowest;
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const VF v = load(d, x + i);
    top = hn::IfThenElse(hn::Gt(v, top), v, top);
  }
  if (i < count) {
    const auto rest = static_cast<std::size_t>(count - i);
    const VF v = hn::IfThenElse(hn::FirstN(d, rest), load_n(d, x + i, rest), lowest);
    top = hn::IfThenElse(hn::Gt(v, top), v, top);
  }
  return max_of(d, top);
}

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
