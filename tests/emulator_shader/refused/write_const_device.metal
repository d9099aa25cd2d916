// refused: cannot assign to return value
#include <metal_stdlib>
using namespace metal;

kernel void k(device const float* o [[buffer(0)]]) {
  o[0] = 1.0f;
}
