// Shaders that are wrong, each in one way.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void write_past_end(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  out[i] = 1;
}

kernel void read_before_start(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
  out[i] = (in + i)[-1];
}

kernel void vector_past_end(device const float* in [[buffer(0)]], device float4* out [[buffer(1)]],
                            uint i [[thread_position_in_grid]]) {
  out[0] = ((device const float4*)in)[i];
}

kernel void misaligned_cast(device const float* in [[buffer(0)]], device float4* out [[buffer(1)]]) {
  out[0] = *(device const float4*)(in + 1);
}

kernel void shared_index(device float* out [[buffer(0)]], constant uint& column [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
  threadgroup float tile[4][8];
  threadgroup float guard[64];
  guard[i] = 0;
  tile[0][column] = 1;
  out[i] = tile[0][column];
}

kernel void shared_pointer(device float* out [[buffer(0)]], threadgroup float* scratch [[threadgroup(0)]],
                           constant uint& at [[buffer(1)]]) {
  scratch[at] = 1;
  out[0] = scratch[at];
}

kernel void barrier_in_branch(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  if (i < 7) threadgroup_barrier(mem_flags::mem_threadgroup);
  out[i] = 1;
}

kernel void barrier_after_return(device float* out [[buffer(0)]], constant uint& count [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  if (i >= count) return;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[i] = 1;
}

kernel void two_barriers(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  if (i % 2 == 0) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
  } else {
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  out[i] = 1;
}

kernel void simd_in_branch(device float* out [[buffer(0)]], ushort lane [[thread_index_in_simdgroup]]) {
  float x = 1;
  if (lane < 16) x = simd_sum(x);
  threadgroup_barrier(mem_flags::mem_none);
  out[lane] = x;
}

kernel void simd_two_kinds(device float* out [[buffer(0)]], ushort lane [[thread_index_in_simdgroup]]) {
  out[lane] = lane < 16 ? simd_sum(1.0f) : simd_max(1.0f);
}

kernel void simd_shuffle_inactive(device float* out [[buffer(0)]],
                                  ushort lane [[thread_index_in_simdgroup]]) {
  if (lane >= 16) return;
  out[lane] = simd_shuffle_xor(float(lane), 16);
}

kernel void simd_delta_differs(device float* out [[buffer(0)]], ushort lane [[thread_index_in_simdgroup]]) {
  out[lane] = simd_shuffle_down(float(lane), lane);
}

kernel void matrix_address_differs(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                                   ushort lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 m;
  simdgroup_load(m, in + lane, 8);
  simdgroup_store(m, out, 8);
}

kernel void matrix_store_in_branch(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                                   ushort lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 m;
  simdgroup_load(m, in, 8);
  if (lane < 31) simdgroup_store(m, out, 8);
}

kernel void matrix_load_past_end(device const float* in [[buffer(0)]], device float* out [[buffer(1)]]) {
  simdgroup_float8x8 m;
  simdgroup_load(m, in, 16);
  simdgroup_store(m, out, 8);
}

kernel void uninitialised_shared(device float* out [[buffer(0)]], device uint* words [[buffer(1)]],
                                 uint i [[thread_index_in_threadgroup]]) {
  threadgroup float never[32];
  threadgroup uint also_never[32];
  out[i] = never[i];
  words[i] = also_never[i];
}

kernel void null_pointer(device float* out [[buffer(0)]]) {
  device float* nowhere = nullptr;
  out[0] = *nowhere;
}

kernel void vector_index(device float* out [[buffer(0)]], constant uint& index [[buffer(1)]]) {
  float4 v = float4(out[0]);
  out[0] = v[index];
}

kernel void local_array_index(device float* out [[buffer(0)]], constant uint& index [[buffer(1)]]) {
  float values[4] = {1, 2, 3, 4};
  values[index] = 5;
  out[0] = values[0] + values[3];
}

kernel void large_static(device float* out [[buffer(0)]], threadgroup float* more [[threadgroup(0)]],
                         uint i [[thread_index_in_threadgroup]]) {
  threadgroup float memory[7680];
  memory[i] = more[i] = 1;
  out[i] = memory[i];
}

kernel void reference_too_large(constant float4x4& matrix [[buffer(0)]], device float* out [[buffer(1)]]) {
  out[0] = matrix[3][3];
}

kernel void missing_barrier(device float* out [[buffer(0)]], uint i [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]]) {
  threadgroup float tile[64];
  tile[i] = float(i);
  out[i] = tile[i == 0 ? 0 : i - 1];
}

constant uint needed [[function_constant(3)]];
kernel void needs_constant(device float* out [[buffer(0)]]) {
  out[0] = float(needed);
}
