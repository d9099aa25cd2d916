#include "backend/cuda/kernels/norm.h"
#include "backend/cuda/kernels/rows.cuh"

namespace candela::cuda {
namespace {

/// Rows of so few elements lose g - h c to cancellation (see rms_norm_grad_kernel).
constexpr std::int64_t kNarrow = 8;

/// The V weights of a unit as floats; `absent` where there is none.
template <class T, int V>
__device__ void read_shared(const void* data, std::int64_t i, std::int64_t step, float absent,
                            float (&out)[V]) {
  if (data == nullptr) {
#pragma unroll
    for (int e = 0; e < V; ++e) out[e] = absent;
    return;
  }
  const Pack<T, V> values = load_unit<T, V>(static_cast<const T*>(data), i, step);
#pragma unroll
  for (int e = 0; e < V; ++e) out[e] = to_float(values.v[e]);
}

/// The same in T. Where a thread has one unit of a row (few rows: latency counts, and registers are free), it
/// is read with the row and is there when the row's sum is.
template <class T, int V>
__device__ Pack<T, V> load_shared(const void* data, std::int64_t i, std::int64_t step, float absent) {
  if (data != nullptr) return load_unit<T, V>(static_cast<const T*>(data), i, step);
  Pack<T, V> all;
#pragma unroll
  for (int e = 0; e < V; ++e) all.v[e] = from_float<T>(absent);
  return all;
}

/// h = x + residual (rounded to T, as it is kept), rstd = 1 / sqrt(mean(h^2) + eps), out = h rstd weight.
template <class T, int V, int K>
__global__ void __launch_bounds__(1024) rms_norm_kernel(RmsNormParams p) {
  __shared__ float slots[32 * 4];
  const Line line = line_of(p.rows.count);
  const T* x = row_of<T>(p.rows, line.row, 0);
  T* out = row_of<T>(p.rows, line.row, 1);
  const T* residual = row_of<T>(p.rows, line.row, 2);
  T* sum = row_of<T>(p.rows, line.row, 3);
  const std::int64_t units = p.rows.length / V;
  Pack<T, V> kept[K > 0 ? K : 1];
  Pack<T, V> weights;
  float squares = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 1) weights = load_shared<T, V>(p.weight, i, p.weight_step, 1);
    Pack<T, V> h = load_unit<T, V>(x, i, p.rows.step[0]);
    if (p.added) {
      const Pack<T, V> r = load_unit<T, V>(residual, i, p.rows.step[2]);
#pragma unroll
      for (int e = 0; e < V; ++e) h.v[e] = from_float<T>(to_float(h.v[e]) + to_float(r.v[e]));
      if (line.active) store_unit<T, V>(sum, i, p.rows.step[3], h);
    }
    kept[k] = h;
#pragma unroll
    for (int e = 0; e < V; ++e) squares += to_float(h.v[e]) * to_float(h.v[e]);
  });
  squares = reduce_row(squares, Sum(), slots);
  const float rstd = 1.0F / sqrtf(squares / static_cast<float>(p.rows.length) + p.eps);
  if (!line.active) return;
  if (p.rstd != nullptr && threadIdx.x == 0) p.rstd[line.row] = rstd;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    // Each thread reads back what it wrote itself.
    const Pack<T, V> h =
        K > 0 ? kept[k]
              : (p.added ? load_unit<T, V>(sum, i, p.rows.step[3]) : load_unit<T, V>(x, i, p.rows.step[0]));
    if (K != 1) weights = load_shared<T, V>(p.weight, i, p.weight_step, 1);
    Pack<T, V> y;
#pragma unroll
    for (int e = 0; e < V; ++e)
      y.v[e] = from_float<T>(to_float(h.v[e]) * rstd * (to_float(weights.v[e]) + p.weight_offset));
    store_unit<T, V>(out, i, p.rows.step[1], y);
  });
}

/// dx of a narrow row, in double: with one element, say, all that is left of g - h c is g eps rstd^2.
template <class T>
__device__ void narrow_rms_grad(const RmsNormGradParams& p, std::int64_t row) {
  const auto at = [&](int n, std::int64_t i) {
    return static_cast<double>(to_float(row_of<T>(p.rows, row, n)[i * p.rows.step[n]]));
  };
  const auto weight = [&](std::int64_t i) {
    return static_cast<double>(to_float(static_cast<const T*>(p.weight)[i * p.weight_step])) +
           static_cast<double>(p.weight_offset);
  };
  double squares = 0;
  double gh = 0;
  for (std::int64_t i = 0; i < p.rows.length; ++i) {
    squares += at(0, i) * at(0, i);
    gh += at(1, i) * weight(i) * at(0, i);
  }
  const double width = static_cast<double>(p.rows.length);
  const double inverse_square = 1 / (squares / width + static_cast<double>(p.eps));
  const std::int64_t i = threadIdx.x;
  const double g = at(1, i) * weight(i);
  const double dx = sqrt(inverse_square) * (g - at(0, i) * (gh / width * inverse_square));
  row_of<T>(p.rows, row, 2)[i * p.rows.step[2]] =
      from_float<T>(static_cast<float>(dx + (p.has_dsum ? at(3, i) : 0)));
}

/// With g = dy weight and c = mean(g h) rstd^2: dx = rstd (g - h c) + dsum.
template <class T, int V, int K>
__global__ void __launch_bounds__(1024) rms_norm_grad_kernel(RmsNormGradParams p) {
  __shared__ float slots[32 * 4];
  const Line line = line_of(p.rows.count);
  if (V == 1 && p.rows.length <= kNarrow) {
    if (line.active && threadIdx.x < p.rows.length) narrow_rms_grad<T>(p, line.row);
    return;
  }
  const T* h = row_of<T>(p.rows, line.row, 0);
  const T* dy = row_of<T>(p.rows, line.row, 1);
  T* dx = row_of<T>(p.rows, line.row, 2);
  const T* dsum = row_of<T>(p.rows, line.row, 3);
  const std::int64_t units = p.rows.length / V;
  const float rstd = p.rstd[line.row];
  Pack<T, V> kept_h[K > 0 ? K : 1];
  Pack<T, V> kept_dy[K > 0 ? K : 1];
  float dot = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    kept_h[k] = load_unit<T, V>(h, i, p.rows.step[0]);
    kept_dy[k] = load_unit<T, V>(dy, i, p.rows.step[1]);
    float weight[V];
    read_shared<T, V>(p.weight, i, p.weight_step, 1, weight);
#pragma unroll
    for (int e = 0; e < V; ++e)
      dot += to_float(kept_dy[k].v[e]) * (weight[e] + p.weight_offset) * (to_float(kept_h[k].v[e]) * rstd);
  });
  dot = reduce_row(dot, Sum(), slots) / static_cast<float>(p.rows.length);
  if (!line.active) return;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) {
      kept_h[0] = load_unit<T, V>(h, i, p.rows.step[0]);
      kept_dy[0] = load_unit<T, V>(dy, i, p.rows.step[1]);
    }
    float weight[V];
    read_shared<T, V>(p.weight, i, p.weight_step, 1, weight);
    Pack<T, V> more{};
    if (p.has_dsum) more = load_unit<T, V>(dsum, i, p.rows.step[3]);
    Pack<T, V> result;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float g = to_float(kept_dy[k].v[e]) * (weight[e] + p.weight_offset);
      const float slope = rstd * (g - to_float(kept_h[k].v[e]) * rstd * dot);
      result.v[e] = from_float<T>(p.has_dsum ? slope + to_float(more.v[e]) : slope);
    }
    store_unit<T, V>(dx, i, p.rows.step[2], result);
  });
}

/// out = (x - mean) rstd weight + bias. Everything is taken relative to the row's first element, so that a
/// large mean costs no digits; the variance is taken about the mean.
template <class T, int V, int K>
__global__ void __launch_bounds__(1024) layer_norm_kernel(LayerNormParams p) {
  __shared__ float slots[32 * 4];
  const Line line = line_of(p.rows.count);
  const T* x = row_of<T>(p.rows, line.row, 0);
  T* out = row_of<T>(p.rows, line.row, 1);
  const std::int64_t units = p.rows.length / V;
  const float length = static_cast<float>(p.rows.length);
  const float origin = to_float(*x);
  Pack<T, V> kept[K > 0 ? K : 1];
  Pack<T, V> weights;
  Pack<T, V> biases;
  float sum = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 1) {
      weights = load_shared<T, V>(p.weight, i, p.weight_step, 1);
      biases = load_shared<T, V>(p.bias, i, p.bias_step, 0);
    }
    kept[k] = load_unit<T, V>(x, i, p.rows.step[0]);
#pragma unroll
    for (int e = 0; e < V; ++e) sum += to_float(kept[k].v[e]) - origin;
  });
  const float mean = reduce_row(sum, Sum(), slots) / length;
  float squares = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) kept[0] = load_unit<T, V>(x, i, p.rows.step[0]);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float centred = (to_float(kept[k].v[e]) - origin) - mean;
      squares += centred * centred;
    }
  });
  squares = reduce_row(squares, Sum(), slots);
  const float rstd = 1.0F / sqrtf(squares / length + p.eps);
  if (!line.active) return;
  if (p.rstd != nullptr && threadIdx.x == 0) {
    p.mean[line.row] = origin + mean;
    p.rstd[line.row] = rstd;
  }
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) kept[0] = load_unit<T, V>(x, i, p.rows.step[0]);
    if (K != 1) {
      weights = load_shared<T, V>(p.weight, i, p.weight_step, 1);
      biases = load_shared<T, V>(p.bias, i, p.bias_step, 0);
    }
    Pack<T, V> y;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float n = ((to_float(kept[k].v[e]) - origin) - mean) * rstd;
      y.v[e] = from_float<T>(n * to_float(weights.v[e]) + to_float(biases.v[e]));
    }
    store_unit<T, V>(out, i, p.rows.step[1], y);
  });
}

/// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)). The mean was kept in
/// f32, which of a large one has few digits after the point; its residual is found here, and kept.
template <class T, int V, int K>
__global__ void __launch_bounds__(1024) layer_norm_grad_kernel(LayerNormGradParams p) {
  __shared__ float slots[32 * 4];
  const Line line = line_of(p.rows.count);
  const T* x = row_of<T>(p.rows, line.row, 0);
  const T* dy = row_of<T>(p.rows, line.row, 1);
  T* dx = row_of<T>(p.rows, line.row, 2);
  const std::int64_t units = p.rows.length / V;
  const float length = static_cast<float>(p.rows.length);
  const float mean = p.mean[line.row];
  const float rstd = p.rstd[line.row];
  Pack<T, V> kept_x[K > 0 ? K : 1];
  Pack<T, V> kept_dy[K > 0 ? K : 1];
  float beyond = 0;
  float sum = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    kept_x[k] = load_unit<T, V>(x, i, p.rows.step[0]);
    kept_dy[k] = load_unit<T, V>(dy, i, p.rows.step[1]);
    float weight[V];
    read_shared<T, V>(p.weight, i, p.weight_step, 1, weight);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      beyond += to_float(kept_x[k].v[e]) - mean;
      sum += __fmul_rn(to_float(kept_dy[k].v[e]), weight[e]);
    }
  });
  beyond = reduce_row(beyond, Sum(), slots) / length;
  sum = reduce_row(sum, Sum(), slots) / length;
  float dot = 0;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) {
      kept_x[0] = load_unit<T, V>(x, i, p.rows.step[0]);
      kept_dy[0] = load_unit<T, V>(dy, i, p.rows.step[1]);
    }
    float weight[V];
    read_shared<T, V>(p.weight, i, p.weight_step, 1, weight);
#pragma unroll
    for (int e = 0; e < V; ++e)
      dot += to_float(kept_dy[k].v[e]) * weight[e] * (((to_float(kept_x[k].v[e]) - mean) - beyond) * rstd);
  });
  dot = reduce_row(dot, Sum(), slots) / length;
  if (!line.active) return;
  if (threadIdx.x == 0) p.residuals[line.row] = beyond;
  each_unit<K>(units, [&](std::int64_t i, int k) {
    if (K == 0) {
      kept_x[0] = load_unit<T, V>(x, i, p.rows.step[0]);
      kept_dy[0] = load_unit<T, V>(dy, i, p.rows.step[1]);
    }
    float weight[V];
    read_shared<T, V>(p.weight, i, p.weight_step, 1, weight);
    Pack<T, V> result;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float n = ((to_float(kept_x[k].v[e]) - mean) - beyond) * rstd;
      result.v[e] = from_float<T>(rstd * (__fmul_rn(to_float(kept_dy[k].v[e]), weight[e]) - sum - n * dot));
    }
    store_unit<T, V>(dx, i, p.rows.step[2], result);
  });
}

constexpr int kColumns = 32;  // of a block
constexpr int kLines = 8;
constexpr std::int64_t kMaxParts = 64;

/// Sums over one part of the rows: partial[part][0] of dy (x - mean) rstd, partial[part][1] of dy.
template <class T>
__global__ void column_sums(NormColumnParams p, std::int64_t rows_per_part) {
  __shared__ float totals[2][kLines][kColumns];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const std::int64_t first = blockIdx.y * rows_per_part;
  const std::int64_t last = first + rows_per_part < p.rows.count ? first + rows_per_part : p.rows.count;
  float products = 0;
  float sums = 0;
  if (column < p.rows.length) {
    for (std::int64_t row = first + threadIdx.y; row < last; row += kLines) {
      float x = to_float(row_of<T>(p.rows, row, 0)[column * p.rows.step[0]]);
      const float dy = to_float(row_of<T>(p.rows, row, 1)[column * p.rows.step[1]]);
      if (p.mean != nullptr) x = (x - p.mean[row]) - p.residuals[row];
      products += dy * (x * p.rstd[row]);
      sums += dy;
    }
  }
  totals[0][threadIdx.y][threadIdx.x] = products;
  totals[1][threadIdx.y][threadIdx.x] = sums;
  __syncthreads();
  if (threadIdx.y >= 2 || column >= p.rows.length) return;
  float total = 0;
  for (int i = 0; i < kLines; ++i) total += totals[threadIdx.y][i][threadIdx.x];
  p.partial[(blockIdx.y * 2 + threadIdx.y) * p.rows.length + column] = total;
}

/// Adds the parts up in order: the same bits every time.
__global__ void join_parts(NormColumnParams p, std::int64_t parts) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= p.rows.length) return;
  double products = 0;
  double sums = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    products += static_cast<double>(p.partial[part * 2 * p.rows.length + column]);
    sums += static_cast<double>(p.partial[(part * 2 + 1) * p.rows.length + column]);
  }
  if (p.dweight != nullptr) p.dweight[column * p.dweight_step] = static_cast<float>(products);
  if (p.dbias != nullptr) p.dbias[column * p.dbias_step] = static_cast<float>(sums);
}

}  // namespace

cudaError_t launch_rms_norm(const RmsNormParams& params, Type type, cudaStream_t stream) {
  return launch_rows<kManyUnits>(params.rows, type, [&]<class T, int V, int K>(const RowGrid& g) {
    rms_norm_kernel<T, V, K><<<g.grid, g.block, 0, stream>>>(params);
  });
}

cudaError_t launch_rms_norm_grad(const RmsNormGradParams& params, Type type, cudaStream_t stream) {
  return launch_rows<kFewUnits>(params.rows, type, [&]<class T, int V, int K>(const RowGrid& g) {
    rms_norm_grad_kernel<T, V, K><<<g.grid, g.block, 0, stream>>>(params);
  });
}

cudaError_t launch_layer_norm(const LayerNormParams& params, Type type, cudaStream_t stream) {
  return launch_rows<kManyUnits>(params.rows, type, [&]<class T, int V, int K>(const RowGrid& g) {
    layer_norm_kernel<T, V, K><<<g.grid, g.block, 0, stream>>>(params);
  });
}

cudaError_t launch_layer_norm_grad(const LayerNormGradParams& params, Type type, cudaStream_t stream) {
  return launch_rows<kFewUnits>(params.rows, type, [&]<class T, int V, int K>(const RowGrid& g) {
    layer_norm_grad_kernel<T, V, K><<<g.grid, g.block, 0, stream>>>(params);
  });
}

std::int64_t norm_column_parts(std::int64_t rows) {
  return std::clamp<std::int64_t>(rows / 64, 1, kMaxParts);
}

cudaError_t launch_norm_columns(const NormColumnParams& params, Type type, cudaStream_t stream) {
  const std::int64_t parts = norm_column_parts(params.rows.count);
  const dim3 grid(grid_of(params.rows.length, kColumns), static_cast<unsigned>(parts));
  const cudaError_t error = dispatch(type, [&]<class T>() {
    column_sums<T><<<grid, dim3(kColumns, kLines), 0, stream>>>(params, ceil_div(params.rows.count, parts));
    return cudaGetLastError();
  });
  if (error != cudaSuccess) return error;
  join_parts<<<grid_of(params.rows.length, 256), 256, 0, stream>>>(params, parts);
  return cudaGetLastError();
}

}  // namespace candela::cuda
