#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "args.h"
using namespace metal;

// C = A B, 32 x 32 per threadgroup of four simdgroups, which hold 16 x 16 each. T is the type in memory,
// float adds up.
template <typename T, uint BK>
kernel void matmul_simdgroup(device const T* a [[buffer(0)]], device const T* b [[buffer(1)]],
                             device T* c [[buffer(2)]], constant shader_args::Matmul& args [[buffer(3)]],
                             uint2 group [[threadgroup_position_in_grid]],
                             uint thread_index [[thread_index_in_threadgroup]],
                             ushort simdgroup [[simdgroup_index_in_threadgroup]],
                             ushort lane [[thread_index_in_simdgroup]]) {
  constexpr uint BM = 32, BN = 32;
  threadgroup T tile_a[BM * BK];
  threadgroup T tile_b[BK * BN];
  const uint first_row = group.y * BM, first_column = group.x * BN;
  const uint row0 = (simdgroup / 2) * 16, column0 = (simdgroup % 2) * 16;
  simdgroup_matrix<float, 8, 8> sums[2][2];
  for (uint i = 0; i < 2; ++i) {
    for (uint j = 0; j < 2; ++j) sums[i][j] = make_filled_simdgroup_matrix<float, 8>(0.0f);
  }
  for (uint start = 0; start < args.k; start += BK) {
    for (uint i = thread_index; i < BM * BK; i += 128)
      tile_a[i] = a[(first_row + i / BK) * args.k + start + i % BK];
    for (uint i = thread_index; i < BK * BN; i += 128)
      tile_b[i] = b[(start + i / BN) * args.n + first_column + i % BN];
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma clang loop unroll(full)
    for (uint k = 0; k < BK; k += 8) {
      simdgroup_matrix<T, 8, 8> left[2], right[2];
      for (uint i = 0; i < 2; ++i) simdgroup_load(left[i], tile_a + (row0 + 8 * i) * BK + k, BK);
      for (uint j = 0; j < 2; ++j) simdgroup_load(right[j], &tile_b[k * BN + column0 + 8 * j], BN);
      for (uint i = 0; i < 2; ++i) {
        for (uint j = 0; j < 2; ++j) simdgroup_multiply_accumulate(sums[i][j], left[i], right[j], sums[i][j]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (uint i = 0; i < 2; ++i) {
    for (uint j = 0; j < 2; ++j) {
      simdgroup_matrix<T, 8, 8> out;
      out.thread_elements()[0] = T(args.alpha * sums[i][j].thread_elements()[0]);
      out.thread_elements()[1] = T(args.alpha * sums[i][j].thread_elements()[1]);
      simdgroup_store(out, c, args.n, ulong2(first_column + column0 + 8 * j, first_row + row0 + 8 * i));
    }
  }
}

template [[host_name("matmul_simdgroup_f32")]] kernel void matmul_simdgroup<float, 32>(
    device const float*, device const float*, device float*, constant shader_args::Matmul&, uint2, uint,
    ushort, ushort);
template [[host_name(
    "matmul_simdgroup_f16")]] [[kernel]] decltype(matmul_simdgroup<half, 16>) matmul_simdgroup<half, 16>;
