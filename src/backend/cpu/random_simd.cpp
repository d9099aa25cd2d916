#include <algorithm>

#include <candela/core/random.h>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/random_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

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

/// Uniform in [0, 1): positions [offset, offset + count) of philox(seed).
void uniform_span(std::uint64_t seed, std::uint64_t offset, float* out, std::int64_t count) {
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

/// out[i] = mean + stddev sqrt(-2 ln(1 - u[2 i])) cos(2 pi u[2 i + 1]).
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

struct Affine {
  Vec scale, shift;
  HWY_INLINE Vec operator()(Vec x) const { return hn::MulAdd(scale, x, shift); }
};

/// x = scale x + shift.
void affine_span(float* x, std::int64_t count, float scale, float shift) {
  map(Affine{splat(scale), splat(shift)}, count, x, x);
}

/// out = x scale where u >= p, else 0.
void keep_scaled(const float* x, const float* u, float* out, std::int64_t count, float p, float scale) {
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto kept = hn::Ge(take(u + i, left), splat(p));
    put(hn::IfThenElseZero(kept, hn::Mul(take(x + i, left), splat(scale))), out + i, left);
  }
}

constexpr std::int64_t kGrain = 1 << 13;

/// Calls body(at, count, target) for blocks of a fresh (contiguous) `out`, and converts what it leaves in
/// `target`.
template <class Body>
void for_each_new_block(const TensorArg& out, Body&& body) {
  dispatch_floating(out.dtype, "random", [&]<class T>() {
    parallel_for(out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float buffer[kBlock];
      for (std::int64_t at = begin; at < end; at += kBlock) {
        const std::int64_t count = std::min(kBlock, end - at);
        float* target = float_target(out.as<T>() + at, 1, buffer);
        body(static_cast<std::uint64_t>(at), count, target);
        write_floats(target, out.as<T>() + at, 1, count);
      }
    });
  });
}

void uniform(const UniformArgs& args) {
  for_each_new_block(args.out, [&](std::uint64_t at, std::int64_t count, float* target) {
    uniform_span(args.seed, args.offset + at, target, count);
    affine_span(target, count, static_cast<float>(args.high - args.low), static_cast<float>(args.low));
    const auto least = static_cast<float>(args.least);
    const auto most = static_cast<float>(args.most);
    for (std::int64_t i = 0; i < count; ++i) target[i] = std::min(std::max(target[i], least), most);
  });
}

void normal(const NormalArgs& args) {
  for_each_new_block(args.out, [&](std::uint64_t at, std::int64_t count, float* target) {
    alignas(64) float u[2 * kBlock];
    uniform_span(args.seed, args.offset + 2 * at, u, 2 * count);
    box_muller(u, target, count, static_cast<float>(args.mean), static_cast<float>(args.stddev));
  });
}

/// The numbers follow the row-major index of an element, whatever x's layout: the innermost dimension is
/// walked with its own position.
void dropout(const DropoutArgs& args) {
  const std::uint64_t start =
      args.offset + (args.base.present() ? static_cast<std::uint64_t>(*args.base.as<std::int64_t>()) : 0);
  const auto p = static_cast<float>(args.p);
  const auto scale = static_cast<float>(1 / (1 - args.p));
  dispatch_floating(args.x.dtype, "dropout", [&]<class T>() {
    const Loops<2> loops({args.out, args.x});
    const std::int64_t inner = loops.inner();
    const std::int64_t out_stride = loops.strides[0][loops.rank - 1];
    const std::int64_t x_stride = loops.strides[1][loops.rank - 1];
    parallel_for(loops.outer() * inner, kGrain, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float buffer[kBlock];
      alignas(64) float u[kBlock];
      for (std::int64_t at = begin; at < end;) {
        std::int64_t offsets[2];
        loops.offsets(at / inner, offsets);
        const std::int64_t first = at % inner;
        const std::int64_t count = std::min({kBlock, end - at, inner - first});
        uniform_span(args.seed, start + static_cast<std::uint64_t>(at), u, count);
        const float* x = read_floats(args.x.as<T>() + offsets[1] + first * x_stride, x_stride, count, buffer);
        T* out = args.out.as<T>() + offsets[0] + first * out_stride;
        float* target = float_target(out, out_stride, buffer);
        keep_scaled(x, u, target, count, p, scale);
        write_floats(target, out, out_stride, count);
        at += count;
      }
    });
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(uniform);
HWY_EXPORT(normal);
HWY_EXPORT(dropout);

void run_uniform(const UniformArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(uniform)(args);
}
void run_normal(const NormalArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(normal)(args);
}
void run_dropout(const DropoutArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(dropout)(args);
}

std::string supports_uniform(const UniformArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_normal(const NormalArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_dropout(const DropoutArgs& args) {
  return refuse_f64(args.x);
}

}  // namespace

void fill_random(KernelTable& table) {
  table.uniform.add("highway", supports_uniform, run_uniform);
  table.normal.add("highway", supports_normal, run_normal);
  table.dropout.add("highway", supports_dropout, run_dropout);
}

}  // namespace candela
#endif
