#include "fault.h"

using namespace candela::shader;

/// Rotates pairs (i, i + half_size) of every head by the angle of its position; elements from 2 half_size on
/// are copied. A thread takes one pair, or one element behind them; the rows of the grid are the heads. out
/// may be x.
template <class T>
[[kernel]] void rope(device const T* x [[buffer(0)]], device T* out [[buffer(1)]],
                     device const float* cosines [[buffer(2)]], device const float* sines [[buffer(3)]],
                     device const int* positions [[buffer(4)]], device atomic_uint* fault [[buffer(5)]],
                     constant RopeParams& p [[buffer(6)]], uint2 at [[thread_position_in_grid]]) {
  long h = static_cast<long>(at.y % p.shape[2]);
  long t = static_cast<long>(at.y / p.shape[2] % p.shape[1]);
  long b = static_cast<long>(at.y / p.shape[2] / p.shape[1]);
  device const T* from = x + (b * p.x_strides[0] + t * p.x_strides[1] + h * p.x_strides[2]);
  device T* to = out + (b * p.out_strides[0] + t * p.out_strides[1] + h * p.out_strides[2]);
  if (at.x >= p.half_size) {
    uint i = p.half_size + at.x;
    to[i] = from[i];
    return;
  }
  int position = positions[b * p.position_strides[0] + t * p.position_strides[1]];
  if (position < 0 || static_cast<uint>(position) >= p.length) {
    report(fault, kPosition, position, p.length);
    return;
  }
  long i = static_cast<long>(at.x);
  float c = cosines[position * p.cos_row + i * p.cos_column];
  float s = sines[position * p.sin_row + i * p.sin_column];
  if (p.inverse != 0) s = -s;
  float first = to_float(from[at.x]);
  float second = to_float(from[p.half_size + at.x]);
  to[at.x] = from_float<T>(first * c - second * s);
  to[p.half_size + at.x] = from_float<T>(second * c + first * s);
}

template [[host_name("rope_f32")]] [[kernel]] decltype(rope<float>) rope<float>;
template [[host_name("rope_f16")]] [[kernel]] decltype(rope<half>) rope<half>;
template [[host_name("rope_bf16")]] [[kernel]] decltype(rope<bf16>) rope<bf16>;
