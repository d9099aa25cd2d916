#include "backend/cuda/kernels/copy.h"
#include "backend/cuda/kernels/loops.cuh"

namespace candela::cuda {
namespace {

/// An element on its way from one type to another: whole numbers travel as such.
struct Wide {
  bool whole;
  std::int64_t integer;
  double real;
};

__device__ Wide read(Type type, const void* data, std::int64_t at) {
  switch (type) {
    case Type::F32:
      return {false, 0, static_cast<const float*>(data)[at]};
    case Type::BF16:
      return {false, 0, to_float(static_cast<const __nv_bfloat16*>(data)[at])};
    case Type::F16:
      return {false, 0, to_float(static_cast<const __half*>(data)[at])};
    case Type::I64:
      return {true, static_cast<const std::int64_t*>(data)[at], 0};
    case Type::I32:
      return {true, static_cast<const std::int32_t*>(data)[at], 0};
    case Type::U8:
      return {true, static_cast<const std::uint8_t*>(data)[at], 0};
    default:
      return {false, 0, static_cast<const double*>(data)[at]};
  }
}

/// Into an integer type: fractions are cut off, what is beyond the range becomes its end, NaN becomes 0.
__device__ std::int64_t saturate(const Wide& x, std::int64_t low, std::int64_t high) {
  if (x.whole) return x.integer < low ? low : (x.integer > high ? high : x.integer);
  if (isnan(x.real)) return 0;
  if (x.real >= static_cast<double>(high)) return high;
  if (x.real <= static_cast<double>(low)) return low;
  return static_cast<std::int64_t>(x.real);
}

__device__ float narrow(const Wide& x) {
  return x.whole ? static_cast<float>(x.integer) : static_cast<float>(x.real);
}

__device__ void write(Type type, void* data, std::int64_t at, const Wide& x) {
  switch (type) {
    case Type::F32:
      static_cast<float*>(data)[at] = narrow(x);
      break;
    case Type::BF16:
      static_cast<__nv_bfloat16*>(data)[at] = from_float<__nv_bfloat16>(narrow(x));
      break;
    case Type::F16:
      static_cast<__half*>(data)[at] = from_float<__half>(narrow(x));
      break;
    case Type::I64:
      static_cast<std::int64_t*>(data)[at] = saturate(x, INT64_MIN, INT64_MAX);
      break;
    case Type::I32:
      static_cast<std::int32_t*>(data)[at] = static_cast<std::int32_t>(saturate(x, INT32_MIN, INT32_MAX));
      break;
    case Type::U8:
      static_cast<std::uint8_t*>(data)[at] = static_cast<std::uint8_t>(saturate(x, 0, 255));
      break;
    default:
      static_cast<double*>(data)[at] = x.whole ? static_cast<double>(x.integer) : x.real;
  }
}

/// Between any two types, any strides.
__global__ void convert_any(LoopParams<2> p, Type out, Type x) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       at < p.outer * p.inner; at += step) {
    const std::int64_t row = at / p.inner;
    const std::int64_t i = at % p.inner;
    const int last = p.rank - 1;
    write(out, p.data[0], outer_offset(p, row, 0) + i * p.strides[0][last],
          read(x, p.data[1], outer_offset(p, row, 1) + i * p.strides[1][last]));
  }
}

/// Elements of one width as they are.
template <class Bits, int V>
__global__ void move(LoopParams<2> p) {
  const std::int64_t packs = p.inner / V;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t outer_step = static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < p.outer;
       row += outer_step) {
    Bits* out = static_cast<Bits*>(p.data[0]) + outer_offset(p, row, 0);
    const Bits* x = static_cast<const Bits*>(p.data[1]) + outer_offset(p, row, 1);
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs;
         i += step) {
      if (V == 1) {
        out[i * p.strides[0][p.rank - 1]] = x[i * p.strides[1][p.rank - 1]];
      } else {
        reinterpret_cast<Pack<Bits, V>*>(out)[i] = reinterpret_cast<const Pack<Bits, V>*>(x)[i];
      }
    }
  }
}

/// Between floats of different widths, 8 neighbours at once.
template <class Out, class In>
__global__ void convert_floats(Out* out, const In* x, std::int64_t packs) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs;
       i += step) {
    Pack<Out, 4> to;
    const Pack<In, 4> from = reinterpret_cast<const Pack<In, 4>*>(x)[i];
#pragma unroll
    for (int e = 0; e < 4; ++e) to.v[e] = from_float<Out>(to_float(from.v[e]));
    reinterpret_cast<Pack<Out, 4>*>(out)[i] = to;
  }
}

constexpr int kThreads = 256;

template <class Bits>
cudaError_t launch_move(const LoopParams<2>& p, cudaStream_t stream) {
  constexpr int kMany = 16 / static_cast<int>(sizeof(Bits));
  const bool unit = p.strides[0][p.rank - 1] == 1 && p.strides[1][p.rank - 1] == 1;
  if (unit && can_pack(p, 2, kMany, sizeof(Bits))) {
    const LoopGrid g = loop_grid(p.inner / kMany, p.outer);
    move<Bits, kMany><<<g.grid, g.block, 0, stream>>>(p);
  } else {
    const LoopGrid g = loop_grid(p.inner, p.outer);
    move<Bits, 1><<<g.grid, g.block, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

int width_of(Type type) {
  switch (type) {
    case Type::F32:
    case Type::I32:
      return 4;
    case Type::BF16:
    case Type::F16:
      return 2;
    case Type::U8:
      return 1;
    default:
      return 8;
  }
}

bool is_narrow_float(Type type) {
  return type == Type::F32 || type == Type::BF16 || type == Type::F16;
}

}  // namespace

cudaError_t launch_copy(const LoopParams<2>& loops, Type out, Type x, cudaStream_t stream) {
  if (out == x) {
    switch (width_of(out)) {
      case 1:
        return launch_move<std::uint8_t>(loops, stream);
      case 2:
        return launch_move<std::uint16_t>(loops, stream);
      case 4:
        return launch_move<std::uint32_t>(loops, stream);
      default:
        return launch_move<std::uint64_t>(loops, stream);
    }
  }
  const bool flat = loops.rank == 1 && loops.strides[0][0] == 1 && loops.strides[1][0] == 1 &&
                    loops.inner % 4 == 0 && reinterpret_cast<std::uintptr_t>(loops.data[0]) % 16 == 0 &&
                    reinterpret_cast<std::uintptr_t>(loops.data[1]) % 16 == 0;
  if (flat && is_narrow_float(out) && is_narrow_float(x)) {
    return dispatch(out, [&]<class Out>() {
      return dispatch(x, [&]<class In>() {
        convert_floats<<<grid_of(loops.inner / 4, kThreads), kThreads, 0, stream>>>(
            static_cast<Out*>(loops.data[0]), static_cast<const In*>(loops.data[1]), loops.inner / 4);
        return cudaGetLastError();
      });
    });
  }
  convert_any<<<grid_of(loops.inner * loops.outer, kThreads), kThreads, 0, stream>>>(loops, out, x);
  return cudaGetLastError();
}

namespace {

__global__ void fill_any(LoopParams<1> p, Type type, double value) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       at < p.outer * p.inner; at += step) {
    write(type, p.data[0], outer_offset(p, at / p.inner, 0) + at % p.inner * p.strides[0][p.rank - 1],
          {false, 0, value});
  }
}

}  // namespace

cudaError_t launch_fill(const LoopParams<1>& loops, Type type, double value, cudaStream_t stream) {
  if (value == 0 && !(1 / value < 0) && loops.rank == 1 && loops.strides[0][0] == 1) {
    return cudaMemsetAsync(loops.data[0], 0, static_cast<std::size_t>(loops.inner) * width_of(type), stream);
  }
  fill_any<<<grid_of(loops.inner * loops.outer, kThreads), kThreads, 0, stream>>>(loops, type, value);
  return cudaGetLastError();
}

}  // namespace candela::cuda
