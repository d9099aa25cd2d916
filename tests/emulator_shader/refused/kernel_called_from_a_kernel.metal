// refused: no matching function for call to 'g'
#include <metal_stdlib>
using namespace metal;

kernel void g(device float* o [[buffer(0)]]) {
  o[0] = 1.0f;
}

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  if (i == 0) g(o);
}
