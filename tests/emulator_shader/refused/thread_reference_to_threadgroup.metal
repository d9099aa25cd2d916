// refused: no matching function for call to 'bump'
#include <metal_stdlib>
using namespace metal;

inline void bump(thread float& x) {
  x += 1.0f;
}

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup float s[4];
  s[i & 3] = 0.0f;
  bump(s[i & 3]);
  o[i] = s[i & 3];
}
