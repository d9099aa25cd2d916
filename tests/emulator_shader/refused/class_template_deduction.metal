// refused: before C++17
#include <metal_stdlib>
using namespace metal;

template <class T>
struct Pair {
  T a, b;
  Pair(T x, T y) : a(x), b(y) {}
};

kernel void k(device float* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  Pair p(1.0f, 2.0f);
  o[i] = p.a + p.b;
}
