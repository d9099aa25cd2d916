#include <metal_stdlib>
using namespace metal;

// Small kernels for the tests of the command encoder.

struct Probe {
  uint count;
  float factor;
};

kernel void probe_scale(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                        constant Probe& probe [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < probe.count) y[i] = x[i] * probe.factor;
}

constant bool kBiased [[function_constant(0)]];
constant float kShift [[function_constant(1)]];

kernel void probe_shift(device float* y [[buffer(0)]],
                        device const float* bias [[buffer(1), function_constant(kBiased)]],
                        uint i [[thread_position_in_grid]]) {
  y[i] += kShift;
  if (kBiased) y[i] += bias[i];
}

// One threadgroup; `scratch` holds one float per thread.
kernel void probe_sum(device const float* x [[buffer(0)]], device float* total [[buffer(1)]],
                      threadgroup float* scratch [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]],
                      uint threads [[threads_per_threadgroup]]) {
  scratch[i] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (i == 0) {
    float sum = 0;
    for (uint j = 0; j < threads; ++j) sum += scratch[j];
    total[0] = sum;
  }
}

// 30000 bytes of threadgroup memory of its own.
kernel void probe_large(device float* y [[buffer(0)]], threadgroup float* more [[threadgroup(0)]],
                        uint i [[thread_index_in_threadgroup]]) {
  threadgroup float own[7500];
  own[i] = float(i);
  more[i] = own[i];
  y[i] = more[i];
}

kernel void probe_past_end(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i + 1] = 1;
}

kernel void probe_diverge(device float* y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  if (i < 3) threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = 1;
}

kernel void probe_store(device uint* y [[buffer(0)]], constant uint& value [[buffer(1)]]) {
  y[0] = value;
}

[[max_total_threads_per_threadgroup(64)]] kernel void probe_small(device float* y [[buffer(0)]],
                                                                  uint i [[thread_position_in_grid]]) {
  y[i] = float(i);
}
