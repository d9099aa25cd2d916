#include "lines.h"
#include "order.h"

using namespace candela::shader;

// The numbers of ReduceOp in backend/args/reduce.h; the host checks that they agree.
enum Reduction { kSum, kSumSquares, kMax, kMin };

/// What part of the elements gave so far; only a sum has a rest.
using Part = LongSum;

inline Part start_part(uint op) {
  return {op == kMax ? -INFINITY : (op == kMin ? INFINITY : 0.0f), 0.0f};
}

/// NaN wins over everything.
inline Part join(uint op, Part a, Part b) {
  if (op == kMax) return {isnan(a.value) || a.value > b.value ? a.value : b.value, 0.0f};
  if (op == kMin) return {isnan(a.value) || a.value < b.value ? a.value : b.value, 0.0f};
  return plus(a, b);
}

inline Part part_of(uint op, float x) {
  return {op == kSumSquares ? x * x : x, 0.0f};
}

inline long offset_over(uint index, uint rank, constant uint32_t* shape, constant int64_t* strides) {
  long offset = 0;
  for (int d = static_cast<int>(rank) - 1; d >= 0; --d) {
    offset += static_cast<long>(index % shape[d]) * strides[d];
    index /= shape[d];
  }
  return offset;
}

/// One threadgroup per result: for long reductions.
template <class T>
[[kernel]] void reduce_groups(device const T* x [[buffer(0)]], device T* out [[buffer(1)]],
                              constant ReduceParams& p [[buffer(2)]],
                              uint output [[threadgroup_position_in_grid]],
                              uint thread_index [[thread_index_in_threadgroup]],
                              uint threads [[threads_per_threadgroup]]) {
  threadgroup Part parts[1024];
  long base = offset_over(output, p.kept_rank, p.kept_shape, p.kept_strides);
  Part value = start_part(p.op);
  for (uint i = thread_index; i < p.length; i += threads) {
    value =
        join(p.op, value,
             part_of(p.op,
                     to_float(x[base + offset_over(i, p.reduced_rank, p.reduced_shape, p.reduced_strides)])));
  }
  parts[thread_index] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint step = threads / 2; step > 0; step /= 2) {
    if (thread_index < step)
      parts[thread_index] = join(p.op, parts[thread_index], parts[thread_index + step]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (thread_index == 0) {
    out[offset_over(output, p.kept_rank, p.kept_shape, p.out_strides)] =
        from_float<T>(p.scale * total_of(parts[0]));
  }
}

/// One thread per result: for short reductions, and for columns, where neighbouring threads read neighbouring
/// elements.
template <class T>
[[kernel]] void reduce_threads(device const T* x [[buffer(0)]], device T* out [[buffer(1)]],
                               constant ReduceParams& p [[buffer(2)]],
                               uint output [[thread_position_in_grid]]) {
  long base = offset_over(output, p.kept_rank, p.kept_shape, p.kept_strides);
  Part value = start_part(p.op);
  for (uint i = 0; i < p.length; ++i) {
    value =
        join(p.op, value,
             part_of(p.op,
                     to_float(x[base + offset_over(i, p.reduced_rank, p.reduced_shape, p.reduced_strides)])));
  }
  out[offset_over(output, p.kept_rank, p.kept_shape, p.out_strides)] =
      from_float<T>(p.scale * total_of(value));
}

/// Position of the largest element of a line, the first of equals; NaN counts as largest. One threadgroup per
/// line.
template <class T>
[[kernel]] void argmax(device const T* x [[buffer(0)]], device long* out [[buffer(1)]],
                       constant ArgmaxParams& p [[buffer(2)]], uint line [[threadgroup_position_in_grid]],
                       uint thread_index [[thread_index_in_threadgroup]],
                       uint threads [[threads_per_threadgroup]]) {
  threadgroup uint keys[kMaxSimdgroups];
  threadgroup uint places[kMaxSimdgroups];
  device const T* from = x + line_offset(p.lines, 0, line);
  uint key = 0u;
  uint place = 0xffffffffu;
  for (uint i = thread_index; i < p.length; i += threads) {
    uint candidate = order_key(to_float(from[static_cast<long>(i) * p.lines.step[0]]));
    if (place == 0xffffffffu || candidate > key) {
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
  if (thread_index != 0) return;
  for (uint i = 1; i < (threads + 31) / 32; ++i) {
    bool better = places[i] != 0xffffffffu &&
                  (first == 0xffffffffu || keys[i] > best || (keys[i] == best && places[i] < first));
    if (better) {
      best = keys[i];
      first = places[i];
    }
  }
  out[line_offset(p.lines, 1, line)] = static_cast<long>(first);
}

template [[host_name("reduce_groups_f32")]] [[kernel]] decltype(reduce_groups<float>) reduce_groups<float>;
template [[host_name("reduce_groups_f16")]] [[kernel]] decltype(reduce_groups<half>) reduce_groups<half>;
template [[host_name("reduce_groups_bf16")]] [[kernel]] decltype(reduce_groups<bf16>) reduce_groups<bf16>;
template [[host_name("reduce_threads_f32")]] [[kernel]] decltype(reduce_threads<float>) reduce_threads<float>;
template [[host_name("reduce_threads_f16")]] [[kernel]] decltype(reduce_threads<half>) reduce_threads<half>;
template [[host_name("reduce_threads_bf16")]] [[kernel]] decltype(reduce_threads<bf16>) reduce_threads<bf16>;
template [[host_name("argmax_f32")]] [[kernel]] decltype(argmax<float>) argmax<float>;
template [[host_name("argmax_f16")]] [[kernel]] decltype(argmax<half>) argmax<half>;
template [[host_name("argmax_bf16")]] [[kernel]] decltype(argmax<bf16>) argmax<bf16>;
