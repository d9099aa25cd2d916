#include "order.h"

using namespace candela::shader;

/// Whether (key, place) comes after (other_key, other_place): value falling, index rising.
inline bool comes_after(uint key, uint place, uint other_key, uint other_place) {
  return key < other_key || (key == other_key && place > other_place);
}

/// One threadgroup finds the k largest of its row. Pass j finds the largest of what comes after choice j - 1.
template <class T>
inline void find_topk(device const T* x, device T* values, device int* indices, constant TopkParams& p,
                      threadgroup uint* keys, threadgroup uint* places, uint thread_index, uint threads) {
  uint last_key = 0xffffffffu;
  uint last_place = 0;
  for (uint j = 0; j < p.k; ++j) {
    uint key = 0;
    uint place = 0xffffffffu;
    for (uint i = thread_index; i < p.length; i += threads) {
      uint candidate = order_key(to_float(x[i]));
      bool open = j == 0 || comes_after(candidate, i, last_key, last_place);
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
      values[j] = x[last_place];
      indices[j] = static_cast<int>(last_place);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

/// One threadgroup per row.
template <class T>
[[kernel]] void topk(device const T* x [[buffer(0)]], device T* values [[buffer(1)]],
                     device int* indices [[buffer(2)]], constant TopkParams& p [[buffer(3)]],
                     uint row [[threadgroup_position_in_grid]],
                     uint thread_index [[thread_index_in_threadgroup]],
                     uint threads [[threads_per_threadgroup]]) {
  threadgroup uint keys[kMaxSimdgroups];
  threadgroup uint places[kMaxSimdgroups];
  ulong result = static_cast<ulong>(row) * p.k;
  find_topk(x + static_cast<ulong>(row) * p.length, values + result, indices + result, p, keys, places,
            thread_index, threads);
}

/// Settles what another kernel found and the order of which is not documented for NaN and equal values. Its
/// row stands if the choices are elements of the row, each comes after the one before, and no more than k
/// elements come up to the last: one pass over the row. Any other row is found again.
template <class T>
[[kernel]] void topk_settle(device const T* x [[buffer(0)]], device T* values [[buffer(1)]],
                            device int* indices [[buffer(2)]], constant TopkParams& p [[buffer(3)]],
                            uint row [[threadgroup_position_in_grid]],
                            uint thread_index [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]]) {
  threadgroup uint keys[kMaxSimdgroups];
  threadgroup uint places[kMaxSimdgroups];
  device const T* line = x + static_cast<ulong>(row) * p.length;
  ulong result = static_cast<ulong>(row) * p.k;
  bool stands = true;
  uint last_key = 0;
  uint last_place = 0;
  for (uint j = 0; j < p.k && stands; ++j) {
    uint place = static_cast<uint>(indices[result + j]);
    stands = place < p.length;
    if (!stands) break;
    uint key = order_key(to_float(line[place]));
    stands = key == order_key(to_float(values[result + j])) &&
             (j == 0 || comes_after(key, place, last_key, last_place));
    last_key = key;
    last_place = place;
  }
  uint count = 0;
  for (uint i = thread_index; i < p.length; i += threads) {
    count += comes_after(order_key(to_float(line[i])), i, last_key, last_place) ? 0u : 1u;
  }
  count = simd_sum(count);
  if (thread_index % 32 == 0) keys[thread_index / 32] = count;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  count = 0;
  for (uint i = 0; i < (threads + 31) / 32; ++i) count += keys[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (!stands || count != p.k)
    find_topk(line, values + result, indices + result, p, keys, places, thread_index, threads);
}

template [[host_name("topk_f32")]] [[kernel]] decltype(topk<float>) topk<float>;
template [[host_name("topk_f16")]] [[kernel]] decltype(topk<half>) topk<half>;
template [[host_name("topk_bf16")]] [[kernel]] decltype(topk<bf16>) topk<bf16>;

template [[host_name("topk_settle_f32")]] [[kernel]] decltype(topk_settle<float>) topk_settle<float>;
template [[host_name("topk_settle_f16")]] [[kernel]] decltype(topk_settle<half>) topk_settle<half>;
