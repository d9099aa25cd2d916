// refused: variable length array
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float a[i];
  o[i] = a[0];
}
