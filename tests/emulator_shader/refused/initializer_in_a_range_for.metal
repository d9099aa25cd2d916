// refused: before C++20
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float values[2] = {1.0f, 2.0f};
  for (float scale = 2.0f; float x : values) o[i] += scale * x;
}
