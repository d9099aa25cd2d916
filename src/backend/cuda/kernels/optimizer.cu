#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/optimizer.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;

/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; param = keep param - step_size m / (sqrt(v)
/// root + eps), with g = grad grad_scale.
template <class P, class G>
__global__ void adamw_kernel(AdamwParams p) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < p.count;
       i += step) {
    const float g = to_float(static_cast<const G*>(p.grad)[i]) * p.grad_scale;
    const float m = p.beta1 * p.m[i] + p.one_less_beta1 * g;
    const float v = p.beta2 * p.v[i] + p.one_less_beta2 * (g * g);
    p.m[i] = m;
    p.v[i] = v;
    P* param = static_cast<P*>(p.param);
    param[i] = from_float<P>(p.keep * to_float(param[i]) - p.step_size * (m / (sqrtf(v) * p.root + p.eps)));
  }
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

}  // namespace candela::cuda
