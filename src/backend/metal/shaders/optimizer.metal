#include "common.h"

using namespace candela::shader;

/// AdamW, one element per thread. rest_i = 1 - beta_i (before beta_i is rounded); factors: apply, grad_scale,
/// keep, step_size, root (args/optimizer.h).
template <class P, class G>
[[kernel]] void adamw(device P* param [[buffer(0)]], device const G* grad [[buffer(1)]],
                      device float* m [[buffer(2)]], device float* v [[buffer(3)]],
                      device const float* factors [[buffer(4)]], constant AdamwParams& p [[buffer(5)]],
                      uint at [[thread_position_in_grid]]) {
  if (factors[0] == 0) return;
  float g = to_float(grad[at]) * factors[1];
  float first = p.beta1 * m[at] + p.rest1 * g;
  float second = p.beta2 * v[at] + p.rest2 * g * g;
  m[at] = first;
  v[at] = second;
  float direction = first / (sqrt(second) * factors[4] + p.eps);
  param[at] = from_float<P>(factors[2] * to_float(param[at]) - factors[3] * direction);
}

/// 1 - beta^steps from log(beta), by the series of exp where beta^steps is near 1 and the difference would
/// cancel.
inline float bias_correction(float log_beta, float steps) {
  float x = steps * log_beta;
  if (x < -0.25f) return 1.0f - exp(x);
  float term = x;
  float sum = x;
  for (int i = 2; i < 9; ++i) {
    term = term * x / float(i);
    sum = sum + term;
  }
  return -sum;
}

/// One thread: the factors of a step (args/optimizer.h).
[[kernel]] void adamw_factors(device const float* loss [[buffer(0)]],
                              device const float* squares [[buffer(1)]],
                              device const float* rate [[buffer(2)]], device float* updates [[buffer(3)]],
                              device float* factors [[buffer(4)]],
                              constant AdamwFactorsParams& p [[buffer(5)]],
                              uint at [[thread_position_in_grid]]) {
  if (at > 0) return;
  if (!isfinite(loss[0]) || !isfinite(squares[0])) {
    for (int i = 0; i < 5; ++i) factors[i] = 0;
    return;
  }
  float steps = updates[0] + 1;
  updates[0] = steps;
  float scale = p.clip_norm / (sqrt(squares[0]) + 1e-6f);
  factors[0] = 1;
  factors[1] = p.clip_norm > 0 && scale < 1 ? scale : 1.0f;
  factors[2] = 1 - rate[0] * p.weight_decay;
  factors[3] = rate[0] / bias_correction(p.log_beta1, steps);
  factors[4] = 1 / sqrt(bias_correction(p.log_beta2, steps));
}

template [[host_name("adamw_f32_f32")]] [[kernel]] decltype(adamw<float, float>) adamw<float, float>;
template [[host_name("adamw_f16_f16")]] [[kernel]] decltype(adamw<half, half>) adamw<half, half>;
template [[host_name("adamw_bf16_bf16")]] [[kernel]] decltype(adamw<bf16, bf16>) adamw<bf16, bf16>;
template [[host_name("adamw_f16_f32")]] [[kernel]] decltype(adamw<half, float>) adamw<half, float>;
template [[host_name("adamw_bf16_f32")]] [[kernel]] decltype(adamw<bf16, float>) adamw<bf16, float>;
