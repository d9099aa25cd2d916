#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/topk.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;

/// An element as a number that grows with its place: the value's bits in the order of magnitude, NaN above
/// all, then the index turned round, so that the lower one is larger.
__device__ unsigned long long key_of(float value, std::int64_t index) {
  unsigned bits = __float_as_uint(value);
  if (isnan(value)) {
    bits = 0xfffffffeU;  // below the bound that the first round starts from
  } else {
    if (value == 0) bits = 0;  // both zeros are equal
    bits = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  }
  return static_cast<unsigned long long>(bits) << 32U | (0xffffffffU - static_cast<unsigned>(index));
}

__device__ unsigned long long larger(unsigned long long a, unsigned long long b) {
  return a > b ? a : b;
}

/// One block a row. Each thread keeps the largest key of its elements that is below the last one taken; a
/// round takes the largest of these, and only the thread that held it looks for its next one.
template <class T>
__global__ void topk_kernel(RowParams<3> p, std::int64_t k) {
  __shared__ unsigned long long slots[kThreads / kWarp];
  const T* x = row_of<T>(p, blockIdx.x, 0);
  T* values = row_of<T>(p, blockIdx.x, 1);
  std::int32_t* indices = row_of<std::int32_t>(p, blockIdx.x, 2);
  const auto best_below = [&](unsigned long long bound) {
    unsigned long long best = 0;
    for (std::int64_t i = threadIdx.x; i < p.length; i += kThreads) {
      const unsigned long long key = key_of(to_float(x[i * p.step[0]]), i);
      if (key < bound) best = larger(best, key);
    }
    return best;
  };
  unsigned long long mine = best_below(~0ULL);
  for (std::int64_t n = 0; n < k; ++n) {
    unsigned long long best = mine;
    for (int step = kWarp / 2; step > 0; step /= 2)
      best = larger(best, __shfl_xor_sync(0xffffffffU, best, step));
    if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = best;
    __syncthreads();
    for (int warp = 0; warp < kThreads / kWarp; ++warp) best = larger(best, slots[warp]);
    if (best == mine) {
      const std::int64_t index = 0xffffffffU - static_cast<unsigned>(best & 0xffffffffU);
      values[n * p.step[1]] = x[index * p.step[0]];
      indices[n * p.step[2]] = static_cast<std::int32_t>(index);
      mine = best_below(best);
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t launch_topk(const RowParams<3>& rows, std::int64_t k, Type type, cudaStream_t stream) {
  return dispatch(type, [&]<class T>() {
    topk_kernel<T><<<static_cast<unsigned>(rows.count), kThreads, 0, stream>>>(rows, k);
    return cudaGetLastError();
  });
}

}  // namespace candela::cuda
