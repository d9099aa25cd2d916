#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention.h"
#include "backend/cpu/convert.h"
#include "backend/cpu/simd_targets.h"
#include "backend/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

using attention_detail::Geometry;
using attention_detail::head_of;
using attention_detail::Range;

/// x[i] *= factor.
HWY_INLINE void scale_row(float* x, std::int64_t count, float factor) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const VF scale = hn::Set(d, factor);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Mul(scale, hn::LoadU(d, x + i)), d, x + i);
  for (; i < count; ++i) x[i] *= factor;
}

/// x[i] = exp(x[i] - shift); returns the sum.
HWY_INLINE float exp_row(float* x, std::int64_t count, float shift) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const VF top = hn::Set(d, shift);
  VF total = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const VF e = exp_nonpositive(d, hn::Sub(hn::LoadU(d, x + i), top));
    hn::StoreU(e, d, x + i);
    total = hn::Add(total, e);
  }
  if (i < count) {
    const auto rest = static_cast<std::size_t>(count - i);
    const VF e = exp_nonpositive(d, hn::Sub(load_n(d, x + i, rest), top));
    store_n(d, e, x + i, rest);
    total = hn::Add(total, hn::IfThenElseZero(hn::FirstN(d, rest), e));
  }
  return sum_of(d, total);
}

void online_softmax_row(float* scores, std::int64_t count, Range seen, float& top, float& total, float* out,
                        std::int64_t size) {
  std::fill(scores, scores + seen.begin, 0.0F);
  std::fill(scores + seen.end, scores + count, 0.0F);
  if (seen.begin >= seen.end) return;
  const float before = top;
  top = std::max(top, max_of_row(scores + seen.begin, seen.end - seen.begin));
  // Nothing but -inf (or NaN) so far: any finite shift gives weights of 0 (or NaN).
  const float shift = top == -std::numeric_limits<float>::infinity() ? 0.0F : top;
  const float sum = exp_row(scores + seen.begin, seen.end - seen.begin, shift);
  if (before == top) {
    total += sum;
    return;
  }
  const float decay = std::exp(before - shift);
  total = total * decay + sum;
  scale_row(out, size, decay);
}

void finish_row(const float* sums, float total, void* out, DType dtype, std::int64_t size) {
  dispatch_floating(dtype, "attention", [&]<class T>() {
    const F32 d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const VF factor = hn::Set(d, total == 0 ? 0.0F : 1 / total);
    T* to = static_cast<T*>(out);
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) store(d, hn::Mul(factor, hn::LoadU(d, sums + i)), to + i);
    if (i < size) {
      const auto rest = static_cast<std::size_t>(size - i);
      store_n(d, hn::Mul(factor, load_n(d, sums + i, rest)), to + i, rest);
    }
  });
}

template <class A, class B>
HWY_INLINE float dot_row(const A* a, const B* b, std::int64_t size) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  VF total = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) total = hn::MulAdd(load(d, a + i), load(d, b + i), total);
  if (i < size) {
    const auto rest = static_cast<std::size_t>(size - i);
    total = hn::MulAdd(load_n(d, a + i, rest), load_n(d, b + i, rest), total);
  }
  return sum_of(d, total);
}

float dot(const void* a, const void* b, DType dtype, std::int64_t size) {
  return dispatch_floating(dtype, "attention", [&]<class T>() {
    return dot_row(static_cast<const T*>(a), static_cast<const T*>(b), size);
  });
}

/// x[i] = exp(x[i] - shift); returns the sum of x[i] g[i].
HWY_INLINE float weigh_row(float* x, const float* g, std::int64_t count, float shift) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const VF top = hn::Set(d, shift);
  VF total = hn::Zero(d);
  for (std::int64_t i = 0; i < count; i += lanes) {
    const bool whole = i + lanes <= count;
    const auto rest = static_cast<std::size_t>(count - i);
    const VF weight = exp_nonpositive(d, hn::Sub(whole ? hn::LoadU(d, x + i) : load_n(d, x + i, rest), top));
    total = hn::MulAdd(whole ? weight : hn::IfThenElseZero(hn::FirstN(d, rest), weight),
                       whole ? hn::LoadU(d, g + i) : load_n(d, g + i, rest), total);
    if (whole) {
      hn::StoreU(weight, d, x + i);
    } else {
      store_n(d, weight, x + i, rest);
    }
  }
  return sum_of(d, total);
}

void score_gradient_row(float* scores, float* gradients, std::int64_t count, Range seen, float lse,
                        const float* delta, float scale) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (float* row : {scores, gradients}) {
    std::fill(row, row + seen.begin, 0.0F);
    std::fill(row + seen.end, row + count, 0.0F);
  }
  if (seen.begin >= seen.end) return;
  const float shift = lse == -std::numeric_limits<float>::infinity() ? 0.0F : lse;
  const float sum = weigh_row(scores + seen.begin, gradients + seen.begin, seen.end - seen.begin, shift);
  const VF mean = hn::Set(d, delta == nullptr ? sum : *delta);
  const VF factor = hn::Set(d, scale);
  std::int64_t i = seen.begin;
  for (; i + lanes <= seen.end; i += lanes) {
    const VF slope = hn::Mul(hn::LoadU(d, scores + i), hn::Sub(hn::LoadU(d, gradients + i), mean));
    hn::StoreU(hn::Mul(slope, factor), d, gradients + i);
  }
  if (i < seen.end) {
    const auto rest = static_cast<std::size_t>(seen.end - i);
    const VF slope = hn::Mul(load_n(d, scores + i, rest), hn::Sub(load_n(d, gradients + i, rest), mean));
    store_n(d, hn::Mul(slope, factor), gradients + i, rest);
  }
}

/// out[r] += weights[r][j] v[j] for all rows r of one group, over `count` keys.
template <class T>
void weigh_values(const float* weights, std::int64_t weights_ld, const T* v, std::int64_t v_ld,
                  std::int64_t count, std::int64_t group, std::int64_t size, float* out) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < size; i += lanes) {
    const bool whole = i + lanes <= size;
    const auto rest = static_cast<std::size_t>(size - i);
    for (std::int64_t first = 0; first < group; first += 4) {
      const std::int64_t rows = std::min<std::int64_t>(4, group - first);
      VF sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
      for (std::int64_t j = 0; j < count; ++j) {
        const VF value = whole ? load(d, v + j * v_ld + i) : load_n(d, v + j * v_ld + i, rest);
        for (std::int64_t r = 0; r < rows; ++r) {
          sums[r] = hn::MulAdd(hn::Set(d, weights[(first + r) * weights_ld + j]), value, sums[r]);
        }
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        if (whole) {
          hn::StoreU(sums[r], d, out + (first + r) * size + i);
        } else {
          store_n(d, sums[r], out + (first + r) * size + i, rest);
        }
      }
    }
  }
}

template <class T>
void decode_as(const AttentionArgs& args, std::int64_t b, std::int64_t key_head, Range seen) {
  const Geometry g(args);
  const std::int64_t count = std::max<std::int64_t>(seen.end - seen.begin, 0);
  const Scratch<float> work(g.group * (2 * g.size + 2 + count));
  float* q = work.data();
  float* sums = q + g.group * g.size;
  float* tops = sums + g.group * g.size;
  float* totals = tops + g.group;
  float* weights = totals + g.group;
  const Matrix keys = head_of(args.k, b, key_head).at(seen.begin, 0);
  const Matrix values = head_of(args.v, b, key_head).at(seen.begin, 0);
  for (std::int64_t r = 0; r < g.group; ++r) {
    gemm_detail::pack_f32(head_of(args.q, b, key_head * g.group + r), 1, g.size, q + r * g.size);
  }
  const auto scale = static_cast<float>(args.scale);
  const T* k = static_cast<const T*>(keys.data);
  for (std::int64_t j = 0; j < count; ++j) {
    for (std::int64_t r = 0; r < g.group; ++r) {
      weights[r * count + j] = scale * dot_row(q + r * g.size, k + j * keys.row_stride, g.size);
    }
  }
  for (std::int64_t r = 0; r < g.group; ++r) {
    tops[r] = -std::numeric_limits<float>::infinity();
    totals[r] = 0;
    online_softmax_row(weights + r * count, count, {0, count}, tops[r], totals[r], nullptr, 0);
  }
  weigh_values(weights, count, static_cast<const T*>(values.data), values.row_stride, count, g.group, g.size,
               sums);
  for (std::int64_t r = 0; r < g.group; ++r) {
    const std::int64_t h = key_head * g.group + r;
    finish_row(sums + r * g.size, totals[r], head_of(args.out, b, h).data, args.out.dtype, g.size);
    if (args.lse.present()) {
      args.lse.as<float>()[b * args.lse.strides[0] + h * args.lse.strides[1]] = tops[r] + std::log(totals[r]);
    }
  }
}

void decode(const AttentionArgs& args, std::int64_t b, std::int64_t key_head) {
  const Range seen = attention_detail::visible_keys(args, b, 0);
  dispatch_floating(args.q.dtype, "attention", [&]<class T>() { decode_as<T>(args, b, key_head, seen); });
}

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::attention_detail {
namespace {

HWY_EXPORT(online_softmax_row);
HWY_EXPORT(finish_row);
HWY_EXPORT(dot);
HWY_EXPORT(score_gradient_row);
HWY_EXPORT(decode);

}  // namespace

void online_softmax_row(float* scores, std::int64_t count, Range seen, float& top, float& total, float* out,
                        std::int64_t size) {
  HWY_DYNAMIC_DISPATCH(online_softmax_row)(scores, count, seen, top, total, out, size);
}

void finish_row(const float* sums, float total, void* out, DType dtype, std::int64_t size) {
  HWY_DYNAMIC_DISPATCH(finish_row)(sums, total, out, dtype, size);
}

float dot(const void* a, const void* b, DType dtype, std::int64_t size) {
  return HWY_DYNAMIC_DISPATCH(dot)(a, b, dtype, size);
}

void score_gradient_row(float* scores, float* gradients, std::int64_t count, Range seen, float lse,
                        const float* delta, float scale) {
  HWY_DYNAMIC_DISPATCH(score_gradient_row)(scores, gradients, count, seen, lse, delta, scale);
}

void decode(const AttentionArgs& args, std::int64_t b, std::int64_t key_head) {
  HWY_DYNAMIC_DISPATCH(decode)(args, b, key_head);
}

}  // namespace candela::attention_detail
#endif
