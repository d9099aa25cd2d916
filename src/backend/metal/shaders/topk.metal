#include "common.h"

using namespace candela::shader;

/// A number that orders as the floats do; NaN above all, the two zeros equal.
inline uint order_key(float x) {
  if (isnan(x)) return 0xffffffffu;
  uint bits = as_type<uint>(x == 0.0f ? 0.0f : x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/// One threadgroup per row. Pass j finds the largest of what comes after choice j - 1 in the order (value
/// falling, index rising).
template <class T>
[[kernel]] void topk(device const T* x [[buffer(0)]], device T* values [[buffer(1)]],
                     device int* indices [[buffer(2)]], constant TopkParams& p [[buffer(3)]],
                     uint row [[threadgroup_position_in_grid]],
                     uint thread_index [[thread_index_in_threadgroup]],
                     uint threads [[threads_per_threadgroup]]) {
  threadgroup uint keys[kMaxSimdgroups];
  threadgroup uint places[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  uint last_key = 0xffffffffu;
  uint last_place = 0;
  for (uint j = 0; j < p.k; ++j) {
    uint key = 0;
    uint place = 0xffffffffu;
    for (uint i = thread_index; i < p.length; i += threads) {
      uint candidate = order_key(to_float(x[base + i]));
      bool open = j == 0 || candidate < last_key || (candidate == last_key && i > last_place);
      if (open && (place == 0xffffffffu || candidate > key)) {
        key = candidate;
        place = i;
      }
    }
    uint best = simd_max(key);
    uint first = simd_min(key == best ? place : 0xffffffffu);
    if (thread_index % 32 == 0) {
      keys[thread_index / 32] = best;
      places[thread_index / 32] = first;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    last_key = keys[0];
    last_place = places[0];
    for (uint i = 1; i < (threads + 31) / 32; ++i) {
      bool better = places[i] != 0xffffffffu && (last_place == 0xffffffffu || keys[i] > last_key ||
                                                 (keys[i] == last_key && places[i] < last_place));
      if (better) {
        last_key = keys[i];
        last_place = places[i];
      }
    }
    if (thread_index == 0) {
      values[static_cast<ulong>(row) * p.k + j] = x[base + last_place];
      indices[static_cast<ulong>(row) * p.k + j] = static_cast<int>(last_place);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

template [[host_name("topk_f32")]] [[kernel]] decltype(topk<float>) topk<float>;
template [[host_name("topk_f16")]] [[kernel]] decltype(topk<half>) topk<half>;
template [[host_name("topk_bf16")]] [[kernel]] decltype(topk<bf16>) topk<bf16>;
