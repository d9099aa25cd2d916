#include <metal_stdlib>
using namespace metal;

constant bool has_bias [[function_constant(0)]];
constant uint repeat [[function_constant(1)]];
constant float scale_option [[function_constant(2)]];
constant float scale = is_function_constant_defined(scale_option) ? scale_option : 1.0;
constant float kTable[4] = {1, 10, 100, 1000};

float bias_of(device const float* bias, uint i) {
  return has_bias ? bias[i] : 0;
}

kernel void constants(device float* out [[buffer(0)]],
                      device const float* bias [[buffer(1), function_constant(has_bias)]],
                      uint i [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint n = 0; n < repeat; ++n) sum += 1;
  out[i] = scale * sum + bias_of(bias, i) + kTable[i % 4];
}

template <typename T>
struct Reader {
  device const T* source;
  uint stride;
  T at(uint row, uint column) const { return source[row * stride + column]; }
};

template <typename T, int N>
METAL_FUNC void copy_row(device const T* from, threadgroup T* to, ushort lane) {
  for (int i = lane; i < N; i += 32) to[i] = from[i];
}

/// Writes each row reversed, through threadgroup memory that the host sizes.
template <typename T, int N>
[[kernel, max_total_threads_per_threadgroup(32 * 2)]] void reverse_rows(
    const device T* in [[buffer(0)]], device T* out [[buffer(1)]],
    threadgroup T* row_memory [[threadgroup(0)]], uint3 group [[threadgroup_position_in_grid]],
    ushort lane [[thread_index_in_simdgroup]]) {
  const Reader<T> reader{in, N};
  copy_row<T, N>(in + group.x * N, row_memory, lane);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = lane; i < N; i += 32) {
    out[group.x * N + i] = row_memory[N - 1 - i] + (reader.at(group.x, i) - in[group.x * N + i]);
  }
}

#define instantiate_reverse(name, type, n) \
  template                                 \
      [[host_name("reverse_rows_" #name)]] [[kernel]] decltype(reverse_rows<type, n>) reverse_rows<type, n>;
instantiate_reverse(f32, float, 40) instantiate_reverse(f16, half, 64) instantiate_reverse(u8, uchar, 7)

    // One simdgroup; out has 32 entries per result.
    kernel void simd_operations(device const int* in [[buffer(0)]], device int* out [[buffer(1)]],
                                ushort lane [[thread_index_in_simdgroup]]) {
  const int x = in[lane];
  int row = 0;
  out[32 * row++ + lane] = simd_sum(x);
  out[32 * row++ + lane] = simd_max(x);
  out[32 * row++ + lane] = simd_min(x);
  out[32 * row++ + lane] = simd_product(x % 3 == 0 ? 2 : 1);
  out[32 * row++ + lane] = simd_prefix_inclusive_sum(x);
  out[32 * row++ + lane] = simd_prefix_exclusive_sum(x);
  out[32 * row++ + lane] = simd_shuffle(x, 31 - lane);
  out[32 * row++ + lane] = simd_shuffle_down(x, 3);
  out[32 * row++ + lane] = simd_shuffle_up(x, 2);
  out[32 * row++ + lane] = simd_shuffle_xor(x, 5);
  out[32 * row++ + lane] = simd_broadcast(x, 7);
  out[32 * row++ + lane] = simd_broadcast_first(x);
  out[32 * row++ + lane] = simd_shuffle_and_fill_down(x, 100 + lane, 4);
  out[32 * row++ + lane] = simd_shuffle_and_fill_up(x, 100 + lane, 4);
  out[32 * row++ + lane] = int(ulong(simd_ballot(x > 0)));
  out[32 * row++ + lane] = simd_all(x > -1000) + 2 * simd_any(x > 1000);
  out[32 * row++ + lane] = simd_shuffle_rotate_down(x, 1);
  out[32 * row++ + lane] = simd_and(x) + simd_or(x) + simd_xor(x);
}

// Lanes that have returned take no part.
kernel void simd_after_return(device float* out [[buffer(0)]], constant uint& lanes [[buffer(1)]],
                              ushort lane [[thread_index_in_simdgroup]]) {
  if (lane >= lanes) return;
  out[lane] = simd_sum(float(lane + 1)) + 0.5h;
}

struct Packed {
  packed_float3 position;
  half weight;
  uchar flags[2];
};

float packed_uchar4_sum(uchar zero) {
  const packed_uchar4 bytes = uchar4(zero, 1, 0, 0);
  return dot(float4(bytes), float4(1.0));
}

kernel void vectors(device const float4* a [[buffer(0)]], device const packed_half4* h [[buffer(1)]],
                    device float* out [[buffer(2)]], device Packed* packed [[buffer(3)]],
                    uint i [[thread_position_in_grid]]) {
  float4 v = a[i];
  v.xy = v.yx;
  v.zw += float2(1.0, 2.0);
  const half4 w = half4(h[i]);
  out[8 * i + 0] = dot(v.xyz, float3(1, 2, 3));
  out[8 * i + 1] = float(w.x * w.y + w.z);
  const float4 clamped = clamp(v, 0.0f, 1.0f);
  out[8 * i + 2] = clamped.x + clamped.y + clamped.z + clamped.w;
  const bool4 large = v > 0.5;
  out[8 * i + 3] = select(0.0f, 1.0f, any(large)) + select(0.0f, 2.0f, all(large));
  out[8 * i + 4] = as_type<float>(as_type<uint>(v.x) ^ 0x80000000u);
  out[8 * i + 5] = precise::exp(v.x) + fast::tanh(v.y) + rsqrt(4.0f) + fma(v.x, v.y, v.z);
  const float2 pair = *(device const float2*)(&a[i].z);
  out[8 * i + 6] = pair.x - pair.y;
  packed[i].position = float3(v.xyz) * 2;
  packed[i].position +=
      packed_float3(fmax(0, 1.0f), pow(2.0f, 3), 0) - float3(packed_uchar4_sum(packed[i].flags[0]), 8, 0);
  packed[i].weight = w.w;
  packed[i].flags[1] = uchar(i);
  device const float* flat = reinterpret_cast<device const float*>(a);
  out[8 * i + 7] =
      flat[4 * i + 3] + max3(1, 2, 3) + popcount(7u) + (isnan(NAN) ? 1 : 0) + (isinf(-INFINITY) ? 1 : 0);
}

kernel void float_atomics(device atomic_float* sum [[buffer(0)]], device atomic_int* largest [[buffer(1)]],
                          device atomic_uint* ticket [[buffer(2)]], device float* out [[buffer(3)]],
                          uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(sum, 0.5, memory_order_relaxed);
  atomic_fetch_max_explicit(&largest[0], int(i), memory_order_relaxed);
  uint seen = atomic_load_explicit(ticket, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(ticket, &seen, seen + 1, memory_order_relaxed,
                                                memory_order_relaxed)) {
  }
  out[seen] = 1.0;
}

// Flash attention's way with matrices: a product whose elements are changed and which is then an operand
// itself.
kernel void chained_products(device const float* a [[buffer(0)]], device const half* b [[buffer(1)]],
                             device float* out [[buffer(2)]]) {
  simdgroup_float8x8 left, middle, result = simdgroup_float8x8(0);
  simdgroup_half8x8 right, right_t;
  simdgroup_load(left, a, 8);
  simdgroup_load(right, b, 8);
  simdgroup_load(right_t, b, 8, 0, true);
  simdgroup_multiply(middle, left, right);
  thread auto& mine = middle.thread_elements();
  mine[0] *= 2;
  mine[1] *= 2;
  for (int i = 0; i < 3; ++i) simdgroup_multiply_accumulate(result, middle, right_t, result);
  simdgroup_multiply_accumulate(result, simdgroup_float8x8(1), left, result);
  simdgroup_store(result, out, 8);
  simdgroup_store(result, out + 64, 8, ulong2(0, 0), true);
}

// Many more matrices than are kept: the first operand must still be right at the end.
kernel void many_products(device const float* a [[buffer(0)]], device float* out [[buffer(1)]],
                          constant uint& count [[buffer(2)]], uint group [[simdgroup_index_in_threadgroup]]) {
  simdgroup_float8x8 first, other, sum = make_filled_simdgroup_matrix<float, 8>(0);
  simdgroup_load(first, a, 8);
  for (uint i = 0; i < count; ++i) {
    simdgroup_load(other, a + 64 * (i % 4), 8);
    simdgroup_multiply_accumulate(sum, first, other, sum);
  }
  simdgroup_store(sum, out + 64 * group, 8);
}
