#include "backend/cuda/kernels/rows.cuh"
#include "backend/cuda/kernels/softmax.h"

namespace candela::cuda {
namespace {

/// The largest of a row and sum of exp(x - top). A row of -inf alone has total = NaN, as exp(-inf + inf) has.
template <class T, int V, int K>
__global__ void __launch_bounds__(1024) softmax_kernel(RowParams<2> p, bool log) {
  __shared__ float slots[32 * 4];
  const Line line = line_of(p.count);
  const T* x = row_of<T>(p, line.row, 0);
  T* out = row_of<T>(p, line.row, 1);
  const std::int64_t units = p.length / V;
  Pack<T, V> kept[K > 0 ? K : 1];
  float top = -INFINITY;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    kept[k] = load_unit<T, V>(x, i, p.step[0]);
#pragma unroll
    for (int e = 0; e < V; ++e) top = Max()(top, to_float(kept[k].v[e]));
  });
  top = reduce_row(top, Max(), slots);
  float total = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) kept[0] = load_unit<T, V>(x, i, p.step[0]);
#pragma unroll
    for (int e = 0; e < V; ++e) total += __expf(to_float(kept[k].v[e]) - top);
  });
  total = reduce_row(total, Sum(), slots);
  if (!line.active) return;
  const float scale = 1.0F / total;
  const float shift = logf(total);
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) kept[0] = load_unit<T, V>(x, i, p.step[0]);
    Pack<T, V> y;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float above = to_float(kept[k].v[e]) - top;
      y.v[e] = from_float<T>(log ? above - shift : __expf(above) * scale);
    }
    store_unit<T, V>(out, i, p.step[1], y);
  });
}

template <class T, int V, int K>
__global__ void __launch_bounds__(1024) softmax_grad_kernel(RowParams<3> p, bool log) {
  __shared__ float slots[32 * 4];
  const Line line = line_of(p.count);
  const T* y = row_of<T>(p, line.row, 0);
  const T* dy = row_of<T>(p, line.row, 1);
  T* dx = row_of<T>(p, line.row, 2);
  const std::int64_t units = p.length / V;
  Pack<T, V> kept_y[K > 0 ? K : 1];
  Pack<T, V> kept_dy[K > 0 ? K : 1];
  float dot = 0;
  float weights = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    kept_y[k] = load_unit<T, V>(y, i, p.step[0]);
    kept_dy[k] = load_unit<T, V>(dy, i, p.step[1]);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float g = to_float(kept_dy[k].v[e]);
      const float y_value = to_float(kept_y[k].v[e]);
      dot += log ? g : g * y_value;
      weights += y_value;
    }
  });
  dot = reduce_row(dot, Sum(), slots);
  // What was rounded to T does not sum to 1.
  weights = reduce_row(weights, Sum(), slots);
  if (!log && weights != 0) dot /= weights;
  if (!line.active) return;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) {
      kept_y[0] = load_unit<T, V>(y, i, p.step[0]);
      kept_dy[0] = load_unit<T, V>(dy, i, p.step[1]);
    }
    Pack<T, V> result;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float value = to_float(kept_y[k].v[e]);
      const float g = to_float(kept_dy[k].v[e]);
      result.v[e] = from_float<T>(log ? g - expf(value) * dot : value * (g - dot));
    }
    store_unit<T, V>(dx, i, p.step[2], result);
  });
}

}  // namespace

cudaError_t launch_softmax(const RowParams<2>& rows, Type type, bool log, cudaStream_t stream) {
  return launch_rows<kManyUnits>(rows, type, [&]<class T, int V, int K>(const RowGrid& g) {
    softmax_kernel<T, V, K><<<g.grid, g.block, 0, stream>>>(rows, log);
  });
}

cudaError_t launch_softmax_grad(const RowParams<3>& rows, Type type, bool log, cudaStream_t stream) {
  return launch_rows<kFewUnits>(rows, type, [&]<class T, int V, int K>(const RowGrid& g) {
    softmax_grad_kernel<T, V, K><<<g.grid, g.block, 0, stream>>>(rows, log);
  });
}

}  // namespace candela::cuda
