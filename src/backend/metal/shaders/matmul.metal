#include "matmul_batch.h"
#include "matmul_tile.h"

using namespace candela::shader;

/// One threadgroup per tile of C and batch index: grid (ceil(n / kTile), ceil(m / kTile), batch).
template <class TA, class TB, class TO>
[[kernel]] [[max_total_threads_per_threadgroup(128)]] void matmul(
    device const TA* a [[buffer(0)]], device const TB* b [[buffer(1)]], device TO* out [[buffer(2)]],
    device const TA* bias [[buffer(3)]], constant MatmulParams& p [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float tiles[kTileFloats];
  BatchOffsets at = batch_offsets(p, group.z);
  a += at.a;
  b += at.b;
  out += at.out;
  uint row = group.y * kTile;
  uint column = group.x * kTile;
  Accumulators sums;
  clear(sums);
  accumulate_product(sums, tiles, a, p.a_row, p.a_column, b, p.b_row, p.b_column, p.m, p.n, p.k, row, column,
                     1.0f, thread_index, simdgroup);
  spread(sums, tiles, simdgroup);
  for (uint i = thread_index; i < kTile * kTile; i += kTileThreads) {
    uint r = row + i / kTile;
    uint c = column + i % kTile;
    if (r < p.m && c < p.n) write_result(out, bias, p, r, c, tiles[i / kTile * kTileStride + i % kTile]);
  }
}

template [[host_name(
    "matmul_f32_f32_f32")]] [[kernel]] decltype(matmul<float, float, float>) matmul<float, float, float>;
template [[host_name(
    "matmul_f16_f16_f16")]] [[kernel]] decltype(matmul<half, half, half>) matmul<half, half, half>;
template [[host_name(
    "matmul_bf16_bf16_bf16")]] [[kernel]] decltype(matmul<bf16, bf16, bf16>) matmul<bf16, bf16, bf16>;
template [[host_name(
    "matmul_f16_f16_f32")]] [[kernel]] decltype(matmul<half, half, float>) matmul<half, half, float>;
template [[host_name(
    "matmul_bf16_bf16_f32")]] [[kernel]] decltype(matmul<bf16, bf16, float>) matmul<bf16, bf16, float>;
template [[host_name(
    "matmul_f16_f32_f32")]] [[kernel]] decltype(matmul<half, float, float>) matmul<half, float, float>;
template [[host_name(
    "matmul_bf16_f32_f32")]] [[kernel]] decltype(matmul<bf16, float, float>) matmul<bf16, float, float>;
template [[host_name(
    "matmul_f32_f16_f32")]] [[kernel]] decltype(matmul<float, half, float>) matmul<float, half, float>;
template [[host_name(
    "matmul_f32_bf16_f32")]] [[kernel]] decltype(matmul<float, bf16, float>) matmul<float, bf16, float>;
template [[host_name(
    "matmul_f32_f32_f16")]] [[kernel]] decltype(matmul<float, float, half>) matmul<float, float, half>;
template [[host_name(
    "matmul_f32_f32_bf16")]] [[kernel]] decltype(matmul<float, float, bf16>) matmul<float, float, bf16>;
template [[host_name(
    "matmul_f32_f16_f16")]] [[kernel]] decltype(matmul<float, half, half>) matmul<float, half, half>;
template [[host_name(
    "matmul_f32_bf16_bf16")]] [[kernel]] decltype(matmul<float, bf16, bf16>) matmul<float, bf16, bf16>;
