#include "matmul_batch.h"

using namespace candela::shader;

// Products of few rows, as of one token with a layer's weight or of an adapter: bound by the reads of B,
// which is read once. A passes through threadgroup memory, every threadgroup reads all of it.

/// Rows that a thread keeps sums of; at least m.
constant uint kRows [[function_constant(0)]];
/// B may be read four neighbours at a time.
constant bool kInFours [[function_constant(1)]];
constant constexpr uint kMostRows = 16;
/// Of the inner dimension, in threadgroup memory at once.
constant constexpr uint kChunk = 256;
constant constexpr uint kGemvThreads = 256;
constant constexpr uint kSimdgroups = kGemvThreads / 32;
/// Columns of a simdgroup where B lies by columns.
constant constexpr uint kColumns = 4;

/// rows [kRows][kChunk] = A from column `start` on, zero outside of m x k.
template <class T>
inline void load_chunk(threadgroup float* rows, device const T* a, constant MatmulParams& p, uint start,
                       uint thread_index) {
  for (uint i = thread_index; i < kRows * kChunk; i += kGemvThreads) {
    uint r = i / kChunk;
    uint d = start + i % kChunk;
    rows[i] = r < p.m && d < p.k
                  ? to_float(a[static_cast<long>(r) * p.a_row + static_cast<long>(d) * p.a_column])
                  : 0.0f;
  }
}

/// Four neighbours, or what is left of them: zeros from `count` on.
template <class T>
inline float4 load_neighbours(device const T* from, uint count) {
  if (kInFours) return load_four(from);
  float4 values = 0.0f;
  for (uint i = 0; i < 4; ++i) {
    if (i < count) values[i] = to_float(from[i]);
  }
  return values;
}

/// B whose columns are contiguous (a weight [n, k], transposed): a simdgroup takes four columns, its lanes
/// share the inner dimension. Grid (ceil(n / 32), 1, batch).
template <class TA, class TB, class TO>
[[kernel]] [[max_total_threads_per_threadgroup(256)]] void gemv_columns(
    device const TA* a [[buffer(0)]], device const TB* b [[buffer(1)]], device TO* out [[buffer(2)]],
    device const TA* bias [[buffer(3)]], constant MatmulParams& p [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float rows[kMostRows * kChunk];
  BatchOffsets at = batch_offsets(p, group.z);
  a += at.a;
  b += at.b;
  out += at.out;
  uint first = (group.x * kSimdgroups + simdgroup) * kColumns;
  float sums[kColumns][kMostRows];
  for (uint c = 0; c < kColumns; ++c) {
    for (uint r = 0; r < kRows; ++r) sums[c][r] = 0.0f;
  }
  for (uint start = 0; start < p.k; start += kChunk) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_chunk(rows, a, p, start, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint d = lane * 4; d < kChunk && start + d < p.k; d += 128) {
      for (uint c = 0; c < kColumns; ++c) {
        if (first + c >= p.n) continue;
        float4 weights = load_neighbours(
            b + (static_cast<long>(first + c) * p.b_column + static_cast<long>(start + d)), p.k - start - d);
        for (uint r = 0; r < kRows; ++r) {
          float4 values = *reinterpret_cast<threadgroup const float4*>(rows + (r * kChunk + d));
          for (uint e = 0; e < 4; ++e) sums[c][r] += values[e] * weights[e];
        }
      }
    }
  }
  for (uint c = 0; c < kColumns; ++c) {
    for (uint r = 0; r < kRows; ++r) {
      float sum = simd_sum(sums[c][r]);
      if (lane == 0 && r < p.m && first + c < p.n) write_result(out, bias, p, r, first + c, sum);
    }
  }
}

/// B whose rows are contiguous: a lane takes four neighbouring columns, the simdgroups share the inner
/// dimension. Grid (ceil(n / 128), 1, batch).
template <class TA, class TB, class TO>
[[kernel]] [[max_total_threads_per_threadgroup(256)]] void gemv_rows(
    device const TA* a [[buffer(0)]], device const TB* b [[buffer(1)]], device TO* out [[buffer(2)]],
    device const TA* bias [[buffer(3)]], constant MatmulParams& p [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float rows[kMostRows * kChunk];
  threadgroup float parts[kSimdgroups * 128];
  BatchOffsets at = batch_offsets(p, group.z);
  a += at.a;
  b += at.b;
  out += at.out;
  uint column = group.x * 128 + lane * 4;
  float4 sums[kMostRows];
  for (uint r = 0; r < kRows; ++r) sums[r] = 0.0f;
  for (uint start = 0; start < p.k; start += kChunk) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_chunk(rows, a, p, start, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (column >= p.n) continue;
    for (uint d = simdgroup; d < kChunk && start + d < p.k; d += kSimdgroups) {
      float4 weights = load_neighbours(
          b + (static_cast<long>(start + d) * p.b_row + static_cast<long>(column)), p.n - column);
      for (uint r = 0; r < kRows; ++r) {
        float value = rows[r * kChunk + d];
        for (uint e = 0; e < 4; ++e) sums[r][e] += value * weights[e];
      }
    }
  }
  for (uint r = 0; r < kRows; ++r) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    *reinterpret_cast<threadgroup float4*>(parts + (simdgroup * 128 + lane * 4)) = sums[r];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint c = group.x * 128 + thread_index;
    if (thread_index >= 128 || r >= p.m || c >= p.n) continue;
    float sum = 0.0f;
    for (uint s = 0; s < kSimdgroups; ++s) sum += parts[s * 128 + thread_index];
    write_result(out, bias, p, r, c, sum);
  }
}

template [[host_name("gemv_columns_f32_f32_f32")]] [[kernel]] decltype(gemv_columns<float, float, float>)
    gemv_columns<float, float, float>;
template [[host_name("gemv_columns_f16_f16_f16")]] [[kernel]] decltype(gemv_columns<half, half, half>)
    gemv_columns<half, half, half>;
template [[host_name("gemv_columns_bf16_bf16_bf16")]] [[kernel]] decltype(gemv_columns<bf16, bf16, bf16>)
    gemv_columns<bf16, bf16, bf16>;
template [[host_name("gemv_columns_f16_f16_f32")]] [[kernel]] decltype(gemv_columns<half, half, float>)
    gemv_columns<half, half, float>;
template [[host_name("gemv_columns_bf16_bf16_f32")]] [[kernel]] decltype(gemv_columns<bf16, bf16, float>)
    gemv_columns<bf16, bf16, float>;
template [[host_name("gemv_columns_f16_f32_f32")]] [[kernel]] decltype(gemv_columns<half, float, float>)
    gemv_columns<half, float, float>;
template [[host_name("gemv_columns_bf16_f32_f32")]] [[kernel]] decltype(gemv_columns<bf16, float, float>)
    gemv_columns<bf16, float, float>;
template [[host_name("gemv_columns_f32_f16_f32")]] [[kernel]] decltype(gemv_columns<float, half, float>)
    gemv_columns<float, half, float>;
template [[host_name("gemv_columns_f32_bf16_f32")]] [[kernel]] decltype(gemv_columns<float, bf16, float>)
    gemv_columns<float, bf16, float>;
template [[host_name("gemv_columns_f32_f32_f16")]] [[kernel]] decltype(gemv_columns<float, float, half>)
    gemv_columns<float, float, half>;
template [[host_name("gemv_columns_f32_f32_bf16")]] [[kernel]] decltype(gemv_columns<float, float, bf16>)
    gemv_columns<float, float, bf16>;
template [[host_name("gemv_columns_f32_f16_f16")]] [[kernel]] decltype(gemv_columns<float, half, half>)
    gemv_columns<float, half, half>;
template [[host_name("gemv_columns_f32_bf16_bf16")]] [[kernel]] decltype(gemv_columns<float, bf16, bf16>)
    gemv_columns<float, bf16, bf16>;
template [[host_name("gemv_rows_f32_f32_f32")]] [[kernel]] decltype(gemv_rows<float, float, float>)
    gemv_rows<float, float, float>;
template [[host_name(
    "gemv_rows_f16_f16_f16")]] [[kernel]] decltype(gemv_rows<half, half, half>) gemv_rows<half, half, half>;
template [[host_name("gemv_rows_bf16_bf16_bf16")]] [[kernel]] decltype(gemv_rows<bf16, bf16, bf16>)
    gemv_rows<bf16, bf16, bf16>;
template [[host_name(
    "gemv_rows_f16_f16_f32")]] [[kernel]] decltype(gemv_rows<half, half, float>) gemv_rows<half, half, float>;
template [[host_name("gemv_rows_bf16_bf16_f32")]] [[kernel]] decltype(gemv_rows<bf16, bf16, float>)
    gemv_rows<bf16, bf16, float>;
template [[host_name("gemv_rows_f16_f32_f32")]] [[kernel]] decltype(gemv_rows<half, float, float>)
    gemv_rows<half, float, float>;
template [[host_name("gemv_rows_bf16_f32_f32")]] [[kernel]] decltype(gemv_rows<bf16, float, float>)
    gemv_rows<bf16, float, float>;
template [[host_name("gemv_rows_f32_f16_f32")]] [[kernel]] decltype(gemv_rows<float, half, float>)
    gemv_rows<float, half, float>;
template [[host_name("gemv_rows_f32_bf16_f32")]] [[kernel]] decltype(gemv_rows<float, bf16, float>)
    gemv_rows<float, bf16, float>;
template [[host_name("gemv_rows_f32_f32_f16")]] [[kernel]] decltype(gemv_rows<float, float, half>)
    gemv_rows<float, float, half>;
template [[host_name("gemv_rows_f32_f32_bf16")]] [[kernel]] decltype(gemv_rows<float, float, bf16>)
    gemv_rows<float, float, bf16>;
template [[host_name(
    "gemv_rows_f32_f16_f16")]] [[kernel]] decltype(gemv_rows<float, half, half>) gemv_rows<float, half, half>;
template [[host_name("gemv_rows_f32_bf16_bf16")]] [[kernel]] decltype(gemv_rows<float, bf16, bf16>)
    gemv_rows<float, bf16, bf16>;
