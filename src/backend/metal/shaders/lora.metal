#include "matmul_tile.h"

using namespace candela::shader;

/// y = x w^T + bias + scale xa b^T in one pass over y: the adapter's product goes on in the same
/// accumulators. T: x, w, bias, y. U: xa, b. Grid (ceil(n / kTile), ceil(m / kTile)).
template <class T, class U>
[[kernel]] [[max_total_threads_per_threadgroup(128)]] void lora_linear(
    device const T* x [[buffer(0)]], device const T* w [[buffer(1)]], device const T* bias [[buffer(2)]],
    device const U* xa [[buffer(3)]], device const U* b [[buffer(4)]], device T* y [[buffer(5)]],
    constant LoraParams& p [[buffer(6)]], uint2 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float tiles[kTileFloats];
  uint row = group.y * kTile;
  uint column = group.x * kTile;
  Accumulators sums;
  clear(sums);
  accumulate_product(sums, tiles, x, p.x_row, p.x_column, w, p.w_column, p.w_row, p.m, p.n, p.k, row, column,
                     1.0f, thread_index, simdgroup);
  accumulate_product(sums, tiles, xa, p.xa_row, p.xa_column, b, p.b_column, p.b_row, p.m, p.n, p.rank, row,
                     column, p.scale, thread_index, simdgroup);
  spread(sums, tiles, simdgroup);
  for (uint i = thread_index; i < kTile * kTile; i += kTileThreads) {
    uint r = row + i / kTile;
    uint c = column + i % kTile;
    if (r >= p.m || c >= p.n) continue;
    float value = tiles[i / kTile * kTileStride + i % kTile];
    if (p.has_bias != 0) value += to_float(bias[static_cast<long>(c) * p.bias_step]);
    y[static_cast<long>(r) * p.y_row + c] = from_float<T>(value);
  }
}

template [[host_name(
    "lora_linear_f32_f32")]] [[kernel]] decltype(lora_linear<float, float>) lora_linear<float, float>;
template
    [[host_name("lora_linear_f16_f16")]] [[kernel]] decltype(lora_linear<half, half>) lora_linear<half, half>;
template [[host_name(
    "lora_linear_f16_f32")]] [[kernel]] decltype(lora_linear<half, float>) lora_linear<half, float>;
template [[host_name(
    "lora_linear_bf16_bf16")]] [[kernel]] decltype(lora_linear<bf16, bf16>) lora_linear<bf16, bf16>;
template [[host_name(
    "lora_linear_bf16_f32")]] [[kernel]] decltype(lora_linear<bf16, float>) lora_linear<bf16, float>;
