#include "common.h"

using namespace candela::shader;

/// Along the last dimension: one threadgroup per row. The row is read three times; all but the first time it
/// is in cache.
template <class T>
[[kernel]] void softmax_rows(device const T* x [[buffer(0)]], device T* out [[buffer(1)]],
                             constant SoftmaxParams& p [[buffer(2)]],
                             uint row [[threadgroup_position_in_grid]],
                             uint thread_index [[thread_index_in_threadgroup]],
                             uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  float largest = -INFINITY;
  for (uint i = thread_index; i < p.length; i += threads) largest = fmax(largest, to_float(x[base + i]));
  largest = group_max(largest, slots, thread_index, threads);
  LongSum part = {0.0f, 0.0f};
  for (uint i = thread_index; i < p.length; i += threads)
    part = plus(part, exp(to_float(x[base + i]) - largest));
  float sum = group_sum(total_of(part), slots, thread_index, threads);
  float log_sum = log(sum);
  for (uint i = thread_index; i < p.length; i += threads) {
    float shifted = to_float(x[base + i]) - largest;
    out[base + i] = from_float<T>(p.log != 0 ? shifted - log_sum : exp(shifted) / sum);
  }
}

/// Along any other dimension: one thread per column, so that neighbouring threads read neighbouring elements.
template <class T>
[[kernel]] void softmax_columns(device const T* x [[buffer(0)]], device T* out [[buffer(1)]],
                                constant SoftmaxParams& p [[buffer(2)]],
                                uint2 at [[thread_position_in_grid]]) {
  ulong base = static_cast<ulong>(at.y) * p.length * p.inner + at.x;
  float largest = -INFINITY;
  for (uint i = 0; i < p.length; ++i)
    largest = fmax(largest, to_float(x[base + static_cast<ulong>(i) * p.inner]));
  LongSum part = {0.0f, 0.0f};
  for (uint i = 0; i < p.length; ++i)
    part = plus(part, exp(to_float(x[base + static_cast<ulong>(i) * p.inner]) - largest));
  float sum = total_of(part);
  float log_sum = log(sum);
  for (uint i = 0; i < p.length; ++i) {
    ulong position = base + static_cast<ulong>(i) * p.inner;
    float shifted = to_float(x[position]) - largest;
    out[position] = from_float<T>(p.log != 0 ? shifted - log_sum : exp(shifted) / sum);
  }
}

/// softmax: dx = y (dy - sum(dy y) / sum(y)); log softmax: dx = dy - exp(y) sum(dy). sum(y) is 1 but for the
/// rounding of y to 16 bits, which the mean of dy must not inherit.
inline float softmax_slope(float y, float dy, float sum, bool log) {
  return log ? dy - exp(y) * sum : y * (dy - sum);
}

template <class T>
[[kernel]] void softmax_grad_rows(device const T* y [[buffer(0)]], device const T* dy [[buffer(1)]],
                                  device T* dx [[buffer(2)]], constant SoftmaxParams& p [[buffer(3)]],
                                  uint row [[threadgroup_position_in_grid]],
                                  uint thread_index [[thread_index_in_threadgroup]],
                                  uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  ulong base = static_cast<ulong>(row) * p.length;
  LongSum part = {0.0f, 0.0f};
  LongSum weight_part = part;
  for (uint i = thread_index; i < p.length; i += threads) {
    float weight = p.log != 0 ? 1.0f : to_float(y[base + i]);
    part = plus(part, to_float(dy[base + i]) * weight);
    weight_part = plus(weight_part, weight);
  }
  float sum = group_sum(total_of(part), slots, thread_index, threads);
  float weights = group_sum(total_of(weight_part), slots, thread_index, threads);
  if (p.log == 0 && weights != 0.0f) sum /= weights;
  for (uint i = thread_index; i < p.length; i += threads) {
    dx[base + i] =
        from_float<T>(softmax_slope(to_float(y[base + i]), to_float(dy[base + i]), sum, p.log != 0));
  }
}

template <class T>
[[kernel]] void softmax_grad_columns(device const T* y [[buffer(0)]], device const T* dy [[buffer(1)]],
                                     device T* dx [[buffer(2)]], constant SoftmaxParams& p [[buffer(3)]],
                                     uint2 at [[thread_position_in_grid]]) {
  ulong base = static_cast<ulong>(at.y) * p.length * p.inner + at.x;
  LongSum part = {0.0f, 0.0f};
  LongSum weight_part = part;
  for (uint i = 0; i < p.length; ++i) {
    ulong position = base + static_cast<ulong>(i) * p.inner;
    float weight = p.log != 0 ? 1.0f : to_float(y[position]);
    part = plus(part, to_float(dy[position]) * weight);
    weight_part = plus(weight_part, weight);
  }
  float sum = total_of(part);
  float weights = total_of(weight_part);
  if (p.log == 0 && weights != 0.0f) sum /= weights;
  for (uint i = 0; i < p.length; ++i) {
    ulong position = base + static_cast<ulong>(i) * p.inner;
    dx[position] =
        from_float<T>(softmax_slope(to_float(y[position]), to_float(dy[position]), sum, p.log != 0));
  }
}

template [[host_name("softmax_rows_f32")]] [[kernel]] decltype(softmax_rows<float>) softmax_rows<float>;
template [[host_name("softmax_rows_f16")]] [[kernel]] decltype(softmax_rows<half>) softmax_rows<half>;
template [[host_name("softmax_rows_bf16")]] [[kernel]] decltype(softmax_rows<bf16>) softmax_rows<bf16>;
template
    [[host_name("softmax_columns_f32")]] [[kernel]] decltype(softmax_columns<float>) softmax_columns<float>;
template
    [[host_name("softmax_columns_f16")]] [[kernel]] decltype(softmax_columns<half>) softmax_columns<half>;
template
    [[host_name("softmax_columns_bf16")]] [[kernel]] decltype(softmax_columns<bf16>) softmax_columns<bf16>;
template [[host_name(
    "softmax_grad_rows_f32")]] [[kernel]] decltype(softmax_grad_rows<float>) softmax_grad_rows<float>;
template [[host_name(
    "softmax_grad_rows_f16")]] [[kernel]] decltype(softmax_grad_rows<half>) softmax_grad_rows<half>;
template [[host_name(
    "softmax_grad_rows_bf16")]] [[kernel]] decltype(softmax_grad_rows<bf16>) softmax_grad_rows<bf16>;
template [[host_name("softmax_grad_columns_f32")]] [[kernel]] decltype(softmax_grad_columns<float>)
    softmax_grad_columns<float>;
template [[host_name(
    "softmax_grad_columns_f16")]] [[kernel]] decltype(softmax_grad_columns<half>) softmax_grad_columns<half>;
template [[host_name(
    "softmax_grad_columns_bf16")]] [[kernel]] decltype(softmax_grad_columns<bf16>) softmax_grad_columns<bf16>;
