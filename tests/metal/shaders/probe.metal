#include <metal_stdlib>
using namespace metal;

// For the test of function constants, which no shader of the library has.

constant bool kDoubled [[function_constant(0)]];
constant uint kAdded [[function_constant(1)]];

[[kernel]] void probe_constants(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float value = static_cast<float>(i + kAdded);
  y[i] = kDoubled ? 2.0f * value : value;
}
