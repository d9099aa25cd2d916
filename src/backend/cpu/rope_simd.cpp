#include <algorithm>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/rope_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

/// One head: pairs (i, i + half) turn by the angle of position and i; elements beyond 2 half are copied.
template <class T>
void rotate_head(const T* x, const float* cos, const float* sin, T* out, std::int64_t half, std::int64_t size,
                 float sign) {
  const std::int64_t step = lanes();
  const Vec direction = splat(sign);
  for (std::int64_t i = 0; i < half; i += step) {
    const std::int64_t left = half - i;
    const bool whole = i + step <= half;
    const Vec a = whole ? load(x + i) : load_some(x + i, left);
    const Vec b = whole ? load(x + half + i) : load_some(x + half + i, left);
    const Vec c = whole ? load(cos + i) : load_some(cos + i, left);
    const Vec s = hn::Mul(direction, whole ? load(sin + i) : load_some(sin + i, left));
    const Vec first = hn::NegMulAdd(b, s, hn::Mul(a, c));
    const Vec second = hn::MulAdd(a, s, hn::Mul(b, c));
    if (whole) {
      store(first, out + i);
      store(second, out + half + i);
    } else {
      store_some(first, out + i, left);
      store_some(second, out + half + i, left);
    }
  }
  if (out != x) std::copy(x + 2 * half, x + size, out + 2 * half);
}

/// All heads of one token.
template <class T>
void rotate_token(const RopeArgs& args, std::int64_t b, std::int64_t t, std::int64_t position) {
  const std::int64_t half = args.cos.shape[1];
  const float* cos = args.cos.as<float>() + position * args.cos.strides[0];
  const float* sin = args.sin.as<float>() + position * args.sin.strides[0];
  for (std::int64_t h = 0; h < args.x.shape[2]; ++h) {
    const T* x = args.x.as<T>() + b * args.x.strides[0] + t * args.x.strides[1] + h * args.x.strides[2];
    T* out = args.out.as<T>() + b * args.out.strides[0] + t * args.out.strides[1] + h * args.out.strides[2];
    rotate_head(x, cos, sin, out, half, args.x.shape[3], args.inverse ? -1.0F : 1.0F);
  }
}

void rope(const RopeArgs& args) {
  const std::int64_t tokens = args.x.shape[1];
  const std::int64_t width = args.x.shape[2] * args.x.shape[3];
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 13) / std::max<std::int64_t>(width, 1));
  dispatch_floating(args.x.dtype, "rope", [&]<class T>() {
    parallel_for(args.x.shape[0] * tokens, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t b = i / tokens;
        const std::int64_t t = i % tokens;
        const std::int64_t position =
            args.positions.as<std::int32_t>()[b * args.positions.strides[0] + t * args.positions.strides[1]];
        require(position >= 0 && position < args.cos.shape[0],
                "rope: positions must be in [0, {}), the table's length; got {} at [{}, {}]",
                args.cos.shape[0], position, b, t);
        rotate_token<T>(args, b, t, position);
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

HWY_EXPORT(rope);

void run_rope(const RopeArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(rope)(args);
}

std::string supports_rope(const RopeArgs& args) {
  const auto unit = [](const TensorArg& x) { return x.strides[x.rank - 1] == 1 || x.last() <= 1; };
  if (auto refusal = refuse_f64(args.x); !refusal.empty()) return refusal;
  if (!unit(args.x) || !unit(args.out) || !unit(args.cos) || !unit(args.sin))
    return "needs unit last strides";
  return {};
}

}  // namespace

void fill_rope(KernelTable& table) {
  table.rope.add("highway", supports_rope, run_rope);
}

}  // namespace candela
#endif
