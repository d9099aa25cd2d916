#include <metal_stdlib>

#include "args.h"
using namespace metal;

kernel void saxpy(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                  constant float& a [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = a * x[i] + y[i];
}

kernel void saxpy4(const device float4* x [[buffer(0)]], device float4* y [[buffer(1)]],
                   constant float& a [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = a * x[i] + y[i];
}

// C = alpha A B by tiles in threadgroup memory.
constant constexpr uint kTile = 16;

kernel void matmul_tiled(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
                         device float* c [[buffer(2)]], constant shader_args::Matmul& args [[buffer(3)]],
                         uint2 at [[thread_position_in_threadgroup]],
                         uint2 group [[threadgroup_position_in_grid]]) {
  threadgroup float tile_a[kTile][kTile];
  threadgroup float tile_b[kTile][kTile];
  const uint row = group.y * kTile + at.y, column = group.x * kTile + at.x;
  float sum = 0.0;
  for (uint start = 0; start < args.k; start += kTile) {
    tile_a[at.y][at.x] = row < args.m && start + at.x < args.k ? a[row * args.k + start + at.x] : 0;
    tile_b[at.y][at.x] = column < args.n && start + at.y < args.k ? b[(start + at.y) * args.n + column] : 0;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < kTile; ++i) sum += tile_a[at.y][i] * tile_b[i][at.x];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (row < args.m && column < args.n) c[row * args.n + column] = args.alpha * sum;
}

// One threadgroup per row.
kernel void rms_norm(device const float* x [[buffer(0)]], device const float* weight [[buffer(1)]],
                     device float* y [[buffer(2)]], constant shader_args::Norm& args [[buffer(3)]],
                     uint row [[threadgroup_position_in_grid]],
                     uint thread_index [[thread_index_in_threadgroup]],
                     uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                     uint simdgroup [[simdgroup_index_in_threadgroup]],
                     uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  device const float* in = x + row * args.columns;
  float sum = 0;
  for (uint i = thread_index; i < args.columns; i += threads) sum += in[i] * in[i];
  sum = simd_sum(sum);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = simd_sum(lane < simdgroups ? partial[lane] : 0.0f);
  const float scale = rsqrt(sum / float(args.columns) + args.epsilon);
  device float* out = &y[row * args.columns];
  for (uint i = thread_index; i < args.columns; i += threads) out[i] = in[i] * scale * weight[i];
}

kernel void histogram(device const uint* values [[buffer(0)]], device atomic_uint* bins [[buffer(1)]],
                      constant uint& count [[buffer(2)]], uint i [[thread_position_in_grid]],
                      ushort local [[thread_index_in_threadgroup]]) {
  threadgroup atomic_uint mine[16];
  if (local < 16) atomic_store_explicit(&mine[local], 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (i < count) atomic_fetch_add_explicit(&mine[values[i] % 16], 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (local < 16)
    atomic_fetch_add_explicit(&bins[local], atomic_load_explicit(&mine[local], memory_order_relaxed),
                              memory_order_relaxed);
}
