// refused: no matching function for call to 'bump'
#include <metal_stdlib>
using namespace metal;

inline void bump(thread float& x) {
  x += 1.0f;
}

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  bump(o[i]);
}
