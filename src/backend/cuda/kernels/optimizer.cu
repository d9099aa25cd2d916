#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/optimizer.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;

/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; param = keep param - step_size m / (sqrt(v)
/// root + eps), with g = grad grad_scale. The factors are read once per thread.
template <class P, class G>
__global__ void adamw_kernel(AdamwParams p) {
  const float apply = p.factors[0];
  const float grad_scale = p.factors[1];
  const float keep = p.factors[2];
  const float step_size = p.factors[3];
  const float root = p.factors[4];
  if (apply == 0) return;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < p.count;
       i += step) {
    const float g = to_float(static_cast<const G*>(p.grad)[i]) * grad_scale;
    const float m = p.beta1 * p.m[i] + p.one_less_beta1 * g;
    const float v = p.beta2 * p.v[i] + p.one_less_beta2 * (g * g);
    p.m[i] = m;
    p.v[i] = v;
    P* param = static_cast<P*>(p.param);
    param[i] = from_float<P>(keep * to_float(param[i]) - step_size * (m / (sqrtf(v) * root + p.eps)));
  }
}

__global__ void adamw_factors_kernel(AdamwFactorsParams p) {
  const double squares = *p.squares;
  if (!isfinite(*p.loss) || !isfinite(squares)) {
    for (int i = 0; i < 5; ++i) p.factors[i] = 0;
    return;
  }
  const double rate = *p.learning_rate;
  const float counted = *p.updates + 1;
  *p.updates = counted;
  const double steps = counted;
  const double scale = p.clip_norm > 0 ? fmin(1.0, p.clip_norm / (sqrt(squares) + 1e-6)) : 1.0;
  p.factors[0] = 1;
  p.factors[1] = static_cast<float>(scale);
  p.factors[2] = static_cast<float>(1 - rate * p.weight_decay);
  p.factors[3] = static_cast<float>(rate / (1 - pow(p.beta1, steps)));
  p.factors[4] = static_cast<float>(1 / sqrt(1 - pow(p.beta2, steps)));
}

}  // namespace

cudaError_t launch_adamw(const AdamwParams& params, Type param, Type grad, cudaStream_t stream) {
  return dispatch(param, [&]<class P>() {
    return dispatch(grad, [&]<class G>() {
      adamw_kernel<P, G><<<grid_of(params.count, kThreads), kThreads, 0, stream>>>(params);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_adamw_factors(const AdamwFactorsParams& params, cudaStream_t stream) {
  adamw_factors_kernel<<<1, 1, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace candela::cuda
