#include "fault.h"

using namespace candela::shader;

/// The largest element of a row and the sum of exponentials below it: log sum exp without rounding the two
/// into one number.
struct RowStatistics {
  float top, sum;
};

/// One threadgroup reads the row. NaN is passed over by the maximum and met again by the sum.
template <class T>
inline RowStatistics row_statistics(device const T* row, long step, uint count, threadgroup float* slots,
                                    uint thread_index, uint threads) {
  float top = -INFINITY;
  for (uint i = thread_index; i < count; i += threads)
    top = fmax(top, to_float(row[static_cast<long>(i) * step]));
  top = group_max(top, slots, thread_index, threads);
  LongSum part = {0.0f, 0.0f};
  for (uint i = thread_index; i < count; i += threads)
    part = plus(part, exp(to_float(row[static_cast<long>(i) * step]) - top));
  return {top, group_sum(total_of(part), slots, thread_index, threads)};
}

/// The target of a row; -1 for a row that is ignored, or whose target is out of range, which is reported.
template <class I>
inline long target_of(device const I* targets, long at, constant LossParams& p, device atomic_uint* fault,
                      uint thread_index) {
  long target = static_cast<long>(targets[at]);
  if (target == p.ignored) return -1;
  if (target >= 0 && target < static_cast<long>(p.classes)) return target;
  if (thread_index == 0) report(fault, kTarget, target, p.classes);
  return -1;
}

/// loss[n] = lse[n] - logits[n, targets[n]], 0 where the row is ignored. One threadgroup per row.
template <class T, class I>
[[kernel]] void cross_entropy(device const T* logits [[buffer(0)]], device const I* targets [[buffer(1)]],
                              device float* loss [[buffer(2)]], device float* lse [[buffer(3)]],
                              device atomic_uint* fault [[buffer(4)]], constant LossParams& p [[buffer(5)]],
                              uint row [[threadgroup_position_in_grid]],
                              uint thread_index [[thread_index_in_threadgroup]],
                              uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  long n = static_cast<long>(row);
  device const T* x = logits + n * p.logits_row;
  RowStatistics statistics = row_statistics(x, p.logits_column, p.classes, slots, thread_index, threads);
  long target = target_of(targets, n * p.target_step, p, fault, thread_index);
  if (thread_index != 0) return;
  float log_sum = log(statistics.sum);
  lse[n * p.lse_step] = statistics.top + log_sum;
  loss[n * p.loss_step] =
      target < 0 ? 0.0f : (statistics.top - to_float(x[target * p.logits_column])) + log_sum;
}

/// Beyond this, lse in f32 is too coarse to give softmax(x) = exp(x - lse) to 1e-5.
constant constexpr float kCoarseLse = 32.0f;

/// dlogits = (softmax(logits) - onehot(target)) dloss[n], 0 for ignored rows. One threadgroup per row.
template <class T, class I>
[[kernel]] void cross_entropy_grad(
    device const T* logits [[buffer(0)]], device const I* targets [[buffer(1)]],
    device const float* dloss [[buffer(2)]], device const float* lse [[buffer(3)]],
    device T* dlogits [[buffer(4)]], device atomic_uint* fault [[buffer(5)]],
    constant LossParams& p [[buffer(6)]], uint row [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  long n = static_cast<long>(row);
  device const T* x = logits + n * p.logits_row;
  device T* dx = dlogits + n * p.dlogits_row;
  long target = target_of(targets, n * p.target_step, p, fault, thread_index);
  RowStatistics statistics = {lse[n * p.lse_step], 1.0f};
  if (!(fabs(statistics.top) <= kCoarseLse))
    statistics = row_statistics(x, p.logits_column, p.classes, slots, thread_index, threads);
  float slope = dloss[n * p.loss_step];
  for (uint i = thread_index; i < p.classes; i += threads) {
    long at = static_cast<long>(i);
    float weight = exp(to_float(x[at * p.logits_column]) - statistics.top) / statistics.sum;
    float value = (weight - (at == target ? 1.0f : 0.0f)) * slope;
    dx[at * p.dlogits_column] = from_float<T>(target < 0 ? 0.0f : value);
  }
}

/// The losses of contiguous rows of logits and, over the logits, the gradient of their sum. One threadgroup
/// per row.
template <class I>
[[kernel]] void head_loss(device float* logits [[buffer(0)]], device const I* targets [[buffer(1)]],
                          device float* loss [[buffer(2)]], device atomic_uint* fault [[buffer(3)]],
                          constant LossParams& p [[buffer(4)]], uint row [[threadgroup_position_in_grid]],
                          uint thread_index [[thread_index_in_threadgroup]],
                          uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  device float* x = logits + static_cast<long>(row) * p.logits_row;
  long target = target_of(targets, static_cast<long>(row) * p.target_step, p, fault, thread_index);
  RowStatistics statistics = {0.0f, 1.0f};
  if (target >= 0) {
    statistics = row_statistics(x, 1, p.classes, slots, thread_index, threads);
    // The thread that writes the gradient there: no other has written it yet.
    if (static_cast<uint>(target) % threads == thread_index)
      loss[row] = (statistics.top - x[target]) + log(statistics.sum);
  } else if (thread_index == 0) {
    loss[row] = 0.0f;
  }
  if (p.gradient == 0) return;
  for (uint i = thread_index; i < p.classes; i += threads) {
    float weight = target < 0 ? 0.0f : exp(x[i] - statistics.top) / statistics.sum;
    x[i] = weight - (static_cast<long>(i) == target ? 1.0f : 0.0f);
  }
}

/// total[0] = or += sum of values, by one threadgroup in a fixed order.
[[kernel]] void sum_losses(device const float* values [[buffer(0)]], device float* total [[buffer(1)]],
                           constant SumParams& p [[buffer(2)]],
                           uint thread_index [[thread_index_in_threadgroup]],
                           uint threads [[threads_per_threadgroup]]) {
  threadgroup float slots[kMaxSimdgroups];
  LongSum part = {0.0f, 0.0f};
  for (uint i = thread_index; i < p.count; i += threads) part = plus(part, values[i]);
  float high = group_sum(part.value, slots, thread_index, threads);
  float low = group_sum(isfinite(part.value) ? part.rest : 0.0f, slots, thread_index, threads);
  if (thread_index == 0) total[0] = (p.accumulate != 0 ? total[0] : 0.0f) + (high + low);
}

template [[host_name(
    "cross_entropy_f32_i32")]] [[kernel]] decltype(cross_entropy<float, int>) cross_entropy<float, int>;
template [[host_name(
    "cross_entropy_f32_i64")]] [[kernel]] decltype(cross_entropy<float, long>) cross_entropy<float, long>;
template [[host_name(
    "cross_entropy_f16_i32")]] [[kernel]] decltype(cross_entropy<half, int>) cross_entropy<half, int>;
template [[host_name(
    "cross_entropy_f16_i64")]] [[kernel]] decltype(cross_entropy<half, long>) cross_entropy<half, long>;
template [[host_name(
    "cross_entropy_bf16_i32")]] [[kernel]] decltype(cross_entropy<bf16, int>) cross_entropy<bf16, int>;
template [[host_name(
    "cross_entropy_bf16_i64")]] [[kernel]] decltype(cross_entropy<bf16, long>) cross_entropy<bf16, long>;
template [[host_name("cross_entropy_grad_f32_i32")]] [[kernel]] decltype(cross_entropy_grad<float, int>)
    cross_entropy_grad<float, int>;
template [[host_name("cross_entropy_grad_f32_i64")]] [[kernel]] decltype(cross_entropy_grad<float, long>)
    cross_entropy_grad<float, long>;
template [[host_name("cross_entropy_grad_f16_i32")]] [[kernel]] decltype(cross_entropy_grad<half, int>)
    cross_entropy_grad<half, int>;
template [[host_name("cross_entropy_grad_f16_i64")]] [[kernel]] decltype(cross_entropy_grad<half, long>)
    cross_entropy_grad<half, long>;
template [[host_name("cross_entropy_grad_bf16_i32")]] [[kernel]] decltype(cross_entropy_grad<bf16, int>)
    cross_entropy_grad<bf16, int>;
template [[host_name("cross_entropy_grad_bf16_i64")]] [[kernel]] decltype(cross_entropy_grad<bf16, long>)
    cross_entropy_grad<bf16, long>;
template [[host_name("head_loss_i32")]] [[kernel]] decltype(head_loss<int>) head_loss<int>;
template [[host_name("head_loss_i64")]] [[kernel]] decltype(head_loss<long>) head_loss<long>;
