#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/random.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;

/// Philox 4x32-10 (Salmon et al., 2011), as core/random.cpp has it: word `position % 4` of counter `position
/// / 4`.
__device__ std::uint32_t philox_word(std::uint64_t seed, std::uint64_t position) {
  std::uint32_t key0 = static_cast<std::uint32_t>(seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32U);
  const std::uint64_t counter = position / 4;
  std::uint32_t c[4] = {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32U), 0,
                        0};
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(0xD2511F53U) * c[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(0xCD9E8D57U) * c[2];
    const std::uint32_t next0 = static_cast<std::uint32_t>(product1 >> 32U) ^ c[1] ^ key0;
    const std::uint32_t next2 = static_cast<std::uint32_t>(product0 >> 32U) ^ c[3] ^ key1;
    c[0] = next0;
    c[1] = static_cast<std::uint32_t>(product1);
    c[2] = next2;
    c[3] = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  const std::uint64_t word = position % 4;
  return word == 0 ? c[0] : (word == 1 ? c[1] : (word == 2 ? c[2] : c[3]));
}

/// [0, 1) with 24 random bits.
__device__ float uniform_at(std::uint64_t seed, std::uint64_t position) {
  return static_cast<float>(philox_word(seed, position) >> 8U) * 0x1p-24F;
}

/// f(i) gives the value of element i, counted in row-major order; operands beyond the first are read by f.
template <class T, int N, class F>
__global__ void draw_kernel(LoopParams<N> p, F f) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       at < p.outer * p.inner; at += step) {
    const std::int64_t row = at / p.inner;
    const std::int64_t i = at % p.inner;
    float x = 0;
    if constexpr (N > 1)
      x = to_float(static_cast<const T*>(p.data[1])[outer_offset(p, row, 1) + i * p.strides[1][p.rank - 1]]);
    static_cast<T*>(p.data[0])[outer_offset(p, row, 0) + i * p.strides[0][p.rank - 1]] =
        from_float<T>(f(static_cast<std::uint64_t>(at), x));
  }
}

struct UniformBody {
  UniformParams p;
  __device__ float operator()(std::uint64_t i, float) const {
    const float value =
        static_cast<float>(p.high - p.low) * uniform_at(p.seed, p.offset + i) + static_cast<float>(p.low);
    return fminf(fmaxf(value, static_cast<float>(p.least)), static_cast<float>(p.most));
  }
};

/// By Box and Muller, of positions 2 i and 2 i + 1.
struct NormalBody {
  NormalParams p;
  __device__ float operator()(std::uint64_t i, float) const {
    const float radius = sqrtf(-2.0F * logf(1.0F - uniform_at(p.seed, p.offset + 2 * i)));
    const float angle = 2.0F * uniform_at(p.seed, p.offset + 2 * i + 1);
    return static_cast<float>(p.mean) + static_cast<float>(p.deviation) * (radius * cospif(angle));
  }
};

struct DropoutBody {
  DropoutParams p;
  __device__ float operator()(std::uint64_t i, float x) const {
    const std::uint64_t base = p.base == nullptr ? 0 : static_cast<std::uint64_t>(*p.base);
    return uniform_at(p.seed, p.offset + base + i) >= static_cast<float>(p.p) ? x * p.scale : 0.0F;
  }
};

template <int N, class F>
cudaError_t launch_draw(const LoopParams<N>& loops, Type type, cudaStream_t stream, const F& body) {
  return dispatch(type, [&]<class T>() {
    draw_kernel<T><<<grid_of(loops.inner * loops.outer, kThreads), kThreads, 0, stream>>>(loops, body);
    return cudaGetLastError();
  });
}

}  // namespace

cudaError_t launch_uniform(const LoopParams<1>& loops, Type type, const UniformParams& params,
                           cudaStream_t stream) {
  return launch_draw(loops, type, stream, UniformBody{params});
}
cudaError_t launch_normal(const LoopParams<1>& loops, Type type, const NormalParams& params,
                          cudaStream_t stream) {
  return launch_draw(loops, type, stream, NormalBody{params});
}
cudaError_t launch_dropout(const LoopParams<2>& loops, Type type, const DropoutParams& params,
                           cudaStream_t stream) {
  return launch_draw(loops, type, stream, DropoutBody{params});
}

}  // namespace candela::cuda
