#include "common.h"

using namespace candela::shader;

constant constexpr uint kFewElements = 8;

/// h = x + residual (rounded to T, as it is kept), rstd = 1 / sqrt(mean(h^2) + eps), out = h rstd (weight +
/// offset). One
/// threadgroup per row.
template <class T>
[[kernel]] void rms_norm(device const T* x [[buffer(0)]], device const T* residual [[buffer(1)]],
                         device const T* weight [[buffer(2)]], device T* out [[buffer(3)]],
                         device T* kept_sum [[buffer(4)]], device float* rstds [[buffer(5)]],
                         constant NormParams& p [[buffer(6)]], uint row [[threadgroup_position_in_grid]],
                         uint thread_index [[thread_index_in_threadgroup]],
                         uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  float squares = 0.0f;
  for (uint i = thread_index; i < p.length; i += threads) {
    float h = to_float(x[base + i]);
    if (p.has_residual != 0) {
      T rounded = from_float<T>(h + to_float(residual[base + i]));
      kept_sum[base + i] = rounded;
      h = to_float(rounded);
    }
    squares += h * h;
  }
  squares = group_sum(squares, slots, thread_index, threads);
  float rstd = 1.0f / sqrt(squares / static_cast<float>(p.length) + p.eps);
  if (p.has_statistics != 0 && thread_index == 0) rstds[row] = rstd;
  for (uint i = thread_index; i < p.length; i += threads) {
    // Each thread reads back what it wrote itself.
    float h = to_float(p.has_residual != 0 ? kept_sum[base + i] : x[base + i]);
    out[base + i] = from_float<T>(h * rstd * (to_float(weight[i]) + p.weight_offset));
  }
}

/// With g = dy (weight + offset) and c = mean(g h) rstd^2: dx = rstd (g - h c) + dsum. In rows of few
/// elements g - h c nearly cancels; there the same is taken as rstd^3 (eps g_i + sum_j h_j (g_i h_j - g_j
/// h_i) / D), where nothing does.
template <class T>
[[kernel]] void rms_norm_grad(device const T* x [[buffer(0)]], device const T* weight [[buffer(1)]],
                              device const float* rstds [[buffer(2)]], device const T* dy [[buffer(3)]],
                              device const T* dsum [[buffer(4)]], device T* dx [[buffer(5)]],
                              constant NormParams& p [[buffer(6)]], uint row [[threadgroup_position_in_grid]],
                              uint thread_index [[thread_index_in_threadgroup]],
                              uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  float rstd = rstds[row];
  float dot = 0.0f;
  for (uint i = thread_index; i < p.length; i += threads) {
    dot += to_float(dy[base + i]) * (to_float(weight[i]) + p.weight_offset) * (to_float(x[base + i]) * rstd);
  }
  dot = group_sum(dot, slots, thread_index, threads) / static_cast<float>(p.length);
  for (uint i = thread_index; i < p.length; i += threads) {
    float g = to_float(dy[base + i]) * (to_float(weight[i]) + p.weight_offset);
    float h = to_float(x[base + i]);
    float value = rstd * (g - h * rstd * dot);
    if (p.length <= kFewElements) {
      float rest = 0.0f;
      for (uint j = 0; j < p.length; ++j) {
        if (j == i) continue;  // zero, but for rounding
        float hj = to_float(x[base + j]) * rstd;
        rest += hj * (g * hj - to_float(dy[base + j]) * (to_float(weight[j]) + p.weight_offset) * (h * rstd));
      }
      value = rstd * (p.eps * g * rstd * rstd + rest / static_cast<float>(p.length));
    }
    if (p.has_sum_gradient != 0) value += to_float(dsum[base + i]);
    dx[base + i] = from_float<T>(value);
  }
}

/// out = (x - mean) rstd weight + bias. Everything is taken relative to the row's first element, so that a
/// large mean costs no digits; the variance is taken about the mean, in a second reading.
template <class T>
[[kernel]] void layer_norm(device const T* x [[buffer(0)]], device const T* weight [[buffer(1)]],
                           device const T* bias [[buffer(2)]], device T* out [[buffer(3)]],
                           device float* means [[buffer(4)]], device float* rstds [[buffer(5)]],
                           constant NormParams& p [[buffer(6)]], uint row [[threadgroup_position_in_grid]],
                           uint thread_index [[thread_index_in_threadgroup]],
                           uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  float origin = to_float(x[base]);
  float sum = 0.0f;
  for (uint i = thread_index; i < p.length; i += threads) sum += to_float(x[base + i]) - origin;
  float mean = group_sum(sum, slots, thread_index, threads) / static_cast<float>(p.length);
  float squares = 0.0f;
  for (uint i = thread_index; i < p.length; i += threads) {
    float centred = (to_float(x[base + i]) - origin) - mean;
    squares += centred * centred;
  }
  squares = group_sum(squares, slots, thread_index, threads);
  float rstd = 1.0f / sqrt(squares / static_cast<float>(p.length) + p.eps);
  if (p.has_statistics != 0 && thread_index == 0) {
    means[row] = origin + mean;
    rstds[row] = rstd;
  }
  for (uint i = thread_index; i < p.length; i += threads) {
    float value = ((to_float(x[base + i]) - origin) - mean) * rstd;
    if (p.has_weight != 0) value *= to_float(weight[i]);
    if (p.has_bias != 0) value += to_float(bias[i]);
    out[base + i] = from_float<T>(value);
  }
}

/// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)). The mean was kept in
/// f32, which of a large one has few digits after the point; what it lacks of the exact mean is found here,
/// and left in `rests`.
template <class T>
[[kernel]] void layer_norm_grad(device const T* x [[buffer(0)]], device const T* weight [[buffer(1)]],
                                device const float* means [[buffer(2)]],
                                device const float* rstds [[buffer(3)]], device const T* dy [[buffer(4)]],
                                device T* dx [[buffer(5)]], device float* rests [[buffer(6)]],
                                constant NormParams& p [[buffer(7)]],
                                uint row [[threadgroup_position_in_grid]],
                                uint thread_index [[thread_index_in_threadgroup]],
                                uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  float mean = means[row];
  float rstd = rstds[row];
  float rest = 0.0f;
  for (uint i = thread_index; i < p.length; i += threads) rest += to_float(x[base + i]) - mean;
  rest = group_sum(rest, slots, thread_index, threads) / static_cast<float>(p.length);
  if (thread_index == 0) rests[row] = rest;
  float sum = 0.0f;
  float dot = 0.0f;
  for (uint i = thread_index; i < p.length; i += threads) {
    float g = to_float(dy[base + i]) * (p.has_weight != 0 ? to_float(weight[i]) : 1.0f);
    sum += g;
    dot += g * (((to_float(x[base + i]) - mean) - rest) * rstd);
  }
  sum = group_sum(sum, slots, thread_index, threads) / static_cast<float>(p.length);
  dot = group_sum(dot, slots, thread_index, threads) / static_cast<float>(p.length);
  for (uint i = thread_index; i < p.length; i += threads) {
    float g = to_float(dy[base + i]) * (p.has_weight != 0 ? to_float(weight[i]) : 1.0f);
    float n = ((to_float(x[base + i]) - mean) - rest) * rstd;
    dx[base + i] = from_float<T>(rstd * (g - sum - n * dot));
  }
}

/// Sums over a piece of the rows: sums[piece][column] of dy, or of dy (x - mean - rest) rstd. One thread per
/// column and piece.
template <class T>
[[kernel]] void column_sums(device const T* dy [[buffer(0)]], device const T* x [[buffer(1)]],
                            device const float* means [[buffer(2)]], device const float* rests [[buffer(3)]],
                            device const float* rstds [[buffer(4)]], device float* sums [[buffer(5)]],
                            constant ColumnParams& p [[buffer(6)]], uint2 at [[thread_position_in_grid]]) {
  uint first = at.y * p.chunk;
  uint last = min(first + p.chunk, p.rows);
  LongSum sum = {0.0f, 0.0f};
  for (uint row = first; row < last; ++row) {
    ulong position = static_cast<ulong>(row) * p.length + at.x;
    float value = to_float(dy[position]);
    if (p.accumulate_products != 0) {
      float centred = to_float(x[position]);
      if (p.has_mean != 0) centred = (centred - means[row]) - rests[row];
      value *= centred * rstds[row];
    }
    sum = plus(sum, value);
  }
  sums[static_cast<ulong>(at.y) * p.length + at.x] = total_of(sum);
}

/// Adds the pieces up in order: the same bits every time.
[[kernel]] void add_pieces(device const float* sums [[buffer(0)]], device float* out [[buffer(1)]],
                           constant ColumnParams& p [[buffer(2)]], uint column [[thread_position_in_grid]]) {
  LongSum total = {0.0f, 0.0f};
  for (uint piece = 0; piece < p.rows; ++piece)
    total = plus(total, sums[static_cast<ulong>(piece) * p.length + column]);
  out[column] = total_of(total);
}

template [[host_name("rms_norm_f32")]] [[kernel]] decltype(rms_norm<float>) rms_norm<float>;
template [[host_name("rms_norm_f16")]] [[kernel]] decltype(rms_norm<half>) rms_norm<half>;
template [[host_name("rms_norm_bf16")]] [[kernel]] decltype(rms_norm<bf16>) rms_norm<bf16>;
template [[host_name("rms_norm_grad_f32")]] [[kernel]] decltype(rms_norm_grad<float>) rms_norm_grad<float>;
template [[host_name("rms_norm_grad_f16")]] [[kernel]] decltype(rms_norm_grad<half>) rms_norm_grad<half>;
template [[host_name("rms_norm_grad_bf16")]] [[kernel]] decltype(rms_norm_grad<bf16>) rms_norm_grad<bf16>;
template [[host_name("layer_norm_f32")]] [[kernel]] decltype(layer_norm<float>) layer_norm<float>;
template [[host_name("layer_norm_f16")]] [[kernel]] decltype(layer_norm<half>) layer_norm<half>;
template [[host_name("layer_norm_bf16")]] [[kernel]] decltype(layer_norm<bf16>) layer_norm<bf16>;
template
    [[host_name("layer_norm_grad_f32")]] [[kernel]] decltype(layer_norm_grad<float>) layer_norm_grad<float>;
template
    [[host_name("layer_norm_grad_f16")]] [[kernel]] decltype(layer_norm_grad<half>) layer_norm_grad<half>;
template
    [[host_name("layer_norm_grad_bf16")]] [[kernel]] decltype(layer_norm_grad<bf16>) layer_norm_grad<bf16>;
template [[host_name("column_sums_f32")]] [[kernel]] decltype(column_sums<float>) column_sums<float>;
template [[host_name("column_sums_f16")]] [[kernel]] decltype(column_sums<half>) column_sums<half>;
template [[host_name("column_sums_bf16")]] [[kernel]] decltype(column_sums<bf16>) column_sums<bf16>;
