// Blocks of floats for the CPU kernels, compiled once per instruction set: operands of any floating dtype and
// stride come in as contiguous floats and go out converted. Outputs may be an input, but must not overlap one
// otherwise. Include after foreach_target.h. No #pragma once: Highway includes this once per target.
#if defined(CANDELA_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CANDELA_BLOCKS_INL_H_
#undef CANDELA_BLOCKS_INL_H_
#else
#define CANDELA_BLOCKS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela {
namespace HWY_NAMESPACE {

/// out[i] = f(x[i], ...) for a functor on vectors.
template <class F, class Out, class... In>
HWY_INLINE void map(const F& f, std::int64_t count, Out* out, const In*... x) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store(f(load(x + i)...), out + i);
  if (i < count) store_some(f(load_some(x + i, count - i)...), out + i, count - i);
}

struct Identity {
  HWY_INLINE Vec operator()(Vec x) const { return x; }
};

/// out[i] = x[i], converted.
template <class From, class To>
void convert_span(const From* x, To* out, std::int64_t count) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(To));
  } else {
    map(Identity{}, count, out, x);
  }
}

/// A copy past the caches: large results need not be read before they are written. A StreamFence on the same
/// thread makes them visible to others.
inline void stream_copy(const void* from, void* to, std::size_t bytes) {
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

/// `count` elements as contiguous floats: x itself where it is that already, otherwise converted into
/// `buffer`.
template <class T>
const float* read_floats(const T* x, std::int64_t stride, std::int64_t count, float* buffer) {
  if (stride == 1) {
    if constexpr (std::is_same_v<T, float>) return x;
    convert_span(x, buffer, count);
  } else if (stride == 0 && count > 0) {
    std::fill(buffer, buffer + count, static_cast<float>(x[0]));
  } else {
    for (std::int64_t i = 0; i < count; ++i) buffer[i] = static_cast<float>(x[i * stride]);
  }
  return buffer;
}

/// Where results for `out` are to be computed: out itself, or `buffer` for write_floats.
template <class T>
float* float_target(T* out, std::int64_t stride, float* buffer, bool stream = false) {
  if constexpr (std::is_same_v<T, float>) {
    if (stride == 1 && !stream) return out;
  }
  return buffer;
}

/// Brings results to `out`, converted; nothing to do where they were computed in place.
template <class T>
void write_floats(const float* result, T* out, std::int64_t stride, std::int64_t count, bool stream = false) {
  if (stride != 1) {
    for (std::int64_t i = 0; i < count; ++i) out[i * stride] = T(result[i]);
    return;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (result == out) return;
    if (stream) return stream_copy(result, out, static_cast<std::size_t>(count) * sizeof(T));
  } else if (stream) {
    alignas(64) T narrowed[kBlock];
    for (std::int64_t at = 0; at < count; at += kBlock) {
      const std::int64_t length = std::min(kBlock, count - at);
      convert_span(result + at, narrowed, length);
      stream_copy(narrowed, out + at, static_cast<std::size_t>(length) * sizeof(T));
    }
    return;
  }
  convert_span(result, out, count);
}

}  // namespace HWY_NAMESPACE
}  // namespace candela
HWY_AFTER_NAMESPACE();

#endif
