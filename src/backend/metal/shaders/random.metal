#include "loops.h"

using namespace candela::shader;

/// The four numbers of one counter of Philox 4x32-10 (Salmon et al., 2011), as core/random.cpp has it.
struct Philox {
  uint words[4];
};

inline Philox philox(ulong seed, ulong counter) {
  uint key0 = static_cast<uint>(seed);
  uint key1 = static_cast<uint>(seed >> 32);
  uint c0 = static_cast<uint>(counter);
  uint c1 = static_cast<uint>(counter >> 32);
  uint c2 = 0u;
  uint c3 = 0u;
  for (uint round = 0; round < 10; ++round) {
    ulong product0 = static_cast<ulong>(0xD2511F53u) * static_cast<ulong>(c0);
    ulong product1 = static_cast<ulong>(0xCD9E8D57u) * static_cast<ulong>(c2);
    c0 = static_cast<uint>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<uint>(product1);
    c2 = static_cast<uint>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<uint>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  Philox result;
  result.words[0] = c0;
  result.words[1] = c1;
  result.words[2] = c2;
  result.words[3] = c3;
  return result;
}

/// [0, 1) with 24 random bits.
inline float to_unit(uint word) {
  return static_cast<float>(word >> 8) * 5.9604644775390625e-8f;
}

inline float unit_at(ulong seed, ulong position) {
  Philox numbers = philox(seed, position / 4);
  return to_unit(numbers.words[position % 4]);
}

/// A thread takes one counter: up to four elements. Its first one may lie before element 0. (`uniform` is a
/// name of the language's library.)
template <class T>
[[kernel]] void draw_uniform(device T* out [[buffer(0)]], constant UniformParams& p [[buffer(1)]],
                             uint at [[thread_position_in_grid]]) {
  ulong counter = p.offset / 4 + static_cast<ulong>(at);
  Philox numbers = philox(p.seed, counter);
  for (uint word = 0; word < 4; ++word) {
    ulong i = counter * 4 + word - p.offset;  // wraps around before element 0
    if (i >= static_cast<ulong>(p.count)) continue;
    uint element = static_cast<uint>(i);
    float value = p.range * to_unit(numbers.words[word]) + p.low;
    out[loop_offset(p.loop, 0, element / p.loop.inner, element % p.loop.inner)] =
        from_float<T>(fmin(fmax(value, p.least), p.most));
  }
}

/// By Box and Muller.
template <class T>
[[kernel]] void draw_normal(device T* out [[buffer(0)]], constant NormalParams& p [[buffer(1)]],
                            uint2 at [[thread_position_in_grid]]) {
  ulong i = static_cast<ulong>(at.y) * p.loop.inner + at.x;
  float radius = sqrt(-2.0f * log(1.0f - unit_at(p.seed, p.offset + 2 * i)));
  float turn = 2.0f * unit_at(p.seed, p.offset + 2 * i + 1);
  out[loop_offset(p.loop, 0, at.y, at.x)] = from_float<T>(p.mean + p.deviation * (radius * cospi(turn)));
}

/// The numbers follow the row-major index of an element, whatever the layouts. base[0], if there is one, is
/// added to the offset.
template <class T>
[[kernel]] void dropout(device T* out [[buffer(0)]], device const T* x [[buffer(1)]],
                        device const ulong* base [[buffer(2)]], constant DropoutParams& p [[buffer(3)]],
                        uint at [[thread_position_in_grid]]) {
  ulong offset = p.offset + (p.has_base != 0u ? base[0] : static_cast<ulong>(0));
  ulong counter = offset / 4 + static_cast<ulong>(at);
  Philox numbers = philox(p.seed, counter);
  for (uint word = 0; word < 4; ++word) {
    ulong i = counter * 4 + word - offset;  // wraps around before element 0
    if (i >= static_cast<ulong>(p.count)) continue;
    uint row = static_cast<uint>(i) / p.loop.inner;
    uint column = static_cast<uint>(i) % p.loop.inner;
    float value = to_float(x[loop_offset(p.loop, 1, row, column)]);
    bool keep = to_unit(numbers.words[word]) >= p.p;
    out[loop_offset(p.loop, 0, row, column)] = from_float<T>(keep ? value * p.scale : 0.0f);
  }
}

template [[host_name("uniform_f32")]] [[kernel]] decltype(draw_uniform<float>) draw_uniform<float>;
template [[host_name("uniform_f16")]] [[kernel]] decltype(draw_uniform<half>) draw_uniform<half>;
template [[host_name("uniform_bf16")]] [[kernel]] decltype(draw_uniform<bf16>) draw_uniform<bf16>;
template [[host_name("normal_f32")]] [[kernel]] decltype(draw_normal<float>) draw_normal<float>;
template [[host_name("normal_f16")]] [[kernel]] decltype(draw_normal<half>) draw_normal<half>;
template [[host_name("normal_bf16")]] [[kernel]] decltype(draw_normal<bf16>) draw_normal<bf16>;
template [[host_name("dropout_f32")]] [[kernel]] decltype(dropout<float>) dropout<float>;
template [[host_name("dropout_f16")]] [[kernel]] decltype(dropout<half>) dropout<half>;
template [[host_name("dropout_bf16")]] [[kernel]] decltype(dropout<bf16>) dropout<bf16>;
