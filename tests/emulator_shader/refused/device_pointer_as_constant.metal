// refused: no matching function for call to 'first'
#include <metal_stdlib>
using namespace metal;

inline float first(constant float* x) {
  return x[0];
}

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  o[i] = first(o);
}
