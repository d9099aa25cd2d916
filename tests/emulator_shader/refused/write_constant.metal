// refused: cannot assign to variable
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* o [[buffer(0)]], constant float& c [[buffer(1)]]) {
  c = 1.0f;
  o[0] = c;
}
