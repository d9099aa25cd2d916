#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/rope.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;

/// A thread takes V pairs of one head, or V elements behind them.
template <class T, int V>
__global__ void rope_kernel(RopeParams p) {
  const std::int64_t pairs = p.half / V;
  const std::int64_t units = pairs + (p.shape[3] - 2 * p.half) / V;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t head = at / units;
  if (head >= p.shape[0] * p.shape[1] * p.shape[2]) return;
  const std::int64_t unit = at % units;
  const std::int64_t h = head % p.shape[2];
  const std::int64_t t = head / p.shape[2] % p.shape[1];
  const std::int64_t b = head / p.shape[2] / p.shape[1];
  const T* x = static_cast<const T*>(p.x) + b * p.x_strides[0] + t * p.x_strides[1] + h * p.x_strides[2];
  T* out = static_cast<T*>(p.out) + b * p.out_strides[0] + t * p.out_strides[1] + h * p.out_strides[2];
  if (unit >= pairs) {
    const std::int64_t i = 2 * p.half + (unit - pairs) * V;
    *reinterpret_cast<Pack<T, V>*>(out + i) = *reinterpret_cast<const Pack<T, V>*>(x + i);
    return;
  }
  const std::int32_t position = p.positions[b * p.position_strides[0] + t * p.position_strides[1]];
  if (position < 0 || position >= p.length) {
    report(p.fault, kPosition, position, p.length);
    return;
  }
  const std::int64_t i = unit * V;
  const Pack<T, V> first = *reinterpret_cast<const Pack<T, V>*>(x + i);
  const Pack<T, V> second = *reinterpret_cast<const Pack<T, V>*>(x + p.half + i);
  Pack<T, V> to_first;
  Pack<T, V> to_second;
#pragma unroll
  for (int e = 0; e < V; ++e) {
    const float cos = p.cos[position * p.cos_stride + i + e];
    const float sin =
        p.inverse ? -p.sin[position * p.sin_stride + i + e] : p.sin[position * p.sin_stride + i + e];
    const float a = to_float(first.v[e]);
    const float c = to_float(second.v[e]);
    to_first.v[e] = from_float<T>(a * cos - c * sin);
    to_second.v[e] = from_float<T>(c * cos + a * sin);
  }
  *reinterpret_cast<Pack<T, V>*>(out + i) = to_first;
  *reinterpret_cast<Pack<T, V>*>(out + p.half + i) = to_second;
}

bool divides(const RopeParams& p, std::int64_t v, std::int64_t bytes) {
  bool fits = p.half % v == 0 && p.shape[3] % v == 0 &&
              reinterpret_cast<std::uintptr_t>(p.x) % (v * bytes) == 0 &&
              reinterpret_cast<std::uintptr_t>(p.out) % (v * bytes) == 0;
  for (int d = 0; d < 3; ++d) fits = fits && p.x_strides[d] % v == 0 && p.out_strides[d] % v == 0;
  return fits;
}

}  // namespace

cudaError_t launch_rope(const RopeParams& params, Type type, cudaStream_t stream) {
  const std::int64_t heads = params.shape[0] * params.shape[1] * params.shape[2];
  return dispatch(type, [&]<class T>() {
    if (divides(params, kPack<T>, sizeof(T))) {
      const std::int64_t units = (params.shape[3] - params.half) / kPack<T>;
      rope_kernel<T, kPack<T>><<<grid_of(heads * units, kThreads), kThreads, 0, stream>>>(params);
    } else {
      rope_kernel<T, 1>
          <<<grid_of(heads * (params.shape[3] - params.half), kThreads), kThreads, 0, stream>>>(params);
    }
    return cudaGetLastError();
  });
}

}  // namespace candela::cuda
