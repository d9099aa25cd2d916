// refused: before C++17
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  if (float x = o[i]; x > 1.0f) o[i] = 1.0f;
}
