#include "common.h"

using namespace candela::shader;

/// AdamW, one element per thread. rest_i = 1 - beta_i (before beta_i is rounded), correction_i = 1 -
/// beta_i^step, keep = 1 - lr weight_decay.
template <class P, class G>
[[kernel]] void adamw(device P* param [[buffer(0)]], device const G* grad [[buffer(1)]],
                      device float* m [[buffer(2)]], device float* v [[buffer(3)]],
                      constant AdamwParams& p [[buffer(4)]], uint at [[thread_position_in_grid]]) {
  float g = to_float(grad[at]) * p.grad_scale;
  float first = p.beta1 * m[at] + p.rest1 * g;
  float second = p.beta2 * v[at] + p.rest2 * g * g;
  m[at] = first;
  v[at] = second;
  float value = to_float(param[at]);
  float direction = (first / p.correction1) / (sqrt(second / p.correction2) + p.eps);
  param[at] = from_float<P>(p.keep * value - p.lr * direction);
}

template [[host_name("adamw_f32_f32")]] [[kernel]] decltype(adamw<float, float>) adamw<float, float>;
template [[host_name("adamw_f16_f16")]] [[kernel]] decltype(adamw<half, half>) adamw<half, half>;
template [[host_name("adamw_bf16_bf16")]] [[kernel]] decltype(adamw<bf16, bf16>) adamw<bf16, bf16>;
template [[host_name("adamw_f16_f32")]] [[kernel]] decltype(adamw<half, float>) adamw<half, float>;
template [[host_name("adamw_bf16_f32")]] [[kernel]] decltype(adamw<bf16, float>) adamw<bf16, float>;
