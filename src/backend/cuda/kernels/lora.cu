#include "backend/cuda/kernels/lora.cuh"

namespace candela::cuda {
namespace {

constexpr int kProjectThreads = 256;
constexpr std::size_t kProjectShared = std::size_t{96} << 10U;  // of a block of launch_project, all stages
constexpr int kGroup = 32;  // columns that a warp of launch_expand takes at once

__device__ float read(Type type, const void* data, std::int64_t at) {
  return type == Type::F32 ? static_cast<const float*>(data)[at]
                           : to_float(static_cast<const bf16*>(data)[at]);
}

/// The rounded value and the rounded remainder; what is not finite is its first term alone.
__device__ void split(float x, bf16 (&terms)[kTerms]) {
  terms[0] = from_float<bf16>(x);
  terms[1] = from_float<bf16>(isfinite(to_float(terms[0])) ? x - to_float(terms[0]) : 0.0F);
}

/// Where the column of a factor lies for launch_expand: within 32 columns in the order in which the lanes of
/// a quad then hold 8 neighbours each. Column 8 t + 2 j + b is number 2 t + b of the j-th tile of 8.
__device__ std::int64_t expand_row(std::int64_t column) {
  const std::int64_t in_group = column % kGroup;
  const std::int64_t t = in_group / 8;
  const std::int64_t j = in_group % 8 / 2;
  return column - in_group + j * 8 + 2 * t + in_group % 2;
}

constexpr int kPrepareThreads = 256;

__host__ __device__ std::int64_t prepare_elements(const LowRankParams& p, int factor) {
  const std::int64_t padded = (p.pieces[p.factors[factor].piece].rank + 15) / 16 * 16;
  return padded * ((p.factors[factor].count + kGroup - 1) / kGroup * kGroup);
}

__host__ __device__ std::int64_t prepare_blocks(std::int64_t elements) {
  return (elements + kPrepareThreads - 1) / kPrepareThreads;
}

/// Element `at` of a padded factor.
__device__ void split_factor(const LowRankParams& p, const FactorParams& factor, std::int64_t at) {
  const RankPiece& piece = p.pieces[factor.piece];
  const std::int64_t padded = (piece.rank + 15) / 16 * 16;
  const std::int64_t whole = (factor.count + kGroup - 1) / kGroup * kGroup;
  if (at >= padded * whole) return;
  const bool along_columns = factor.column_stride == 1;
  const std::int64_t r = along_columns ? at / whole : at % padded;
  const std::int64_t c = along_columns ? at % whole : at / padded;
  const bool inside = r < piece.rank && c < factor.count;
  bf16 terms[kTerms];
  split(inside ? read(p.factor_type, factor.data, r * factor.rank_stride + c * factor.column_stride) : 0.0F,
        terms);
  if (p.terms != nullptr && c < factor.count) {
    bf16* to = static_cast<bf16*>(p.terms) + factor.terms_offset + r * factor.count + c;
    to[0] = terms[0];
    to[factor.terms_step] = terms[1];
  }
  if (p.expand != nullptr)
    (static_cast<bf16*>(p.expand) + factor.expand_offset)[expand_row(c) * factor.expand_pitch + r] = terms[0];
}

/// Element `at` of a low matrix.
__device__ void split_low(const LowRankParams& p, const LowParams& low, std::int64_t at) {
  if (at >= low.rows * p.padded) return;
  // A 64-bit division costs more than the rest.
  const bool small = at < (std::int64_t{1} << 31U);
  const auto padded = static_cast<unsigned>(p.padded);
  const std::int64_t n = small ? static_cast<unsigned>(at) / padded : at / p.padded;
  const std::int64_t padded_rank = at - n * p.padded;
  int i = 0;
  while (i + 1 < p.piece_count && padded_rank >= p.pieces[i + 1].padded_rank) ++i;
  const std::int64_t r = padded_rank - p.pieces[i].padded_rank;
  bf16 terms[kTerms];
  split(r < p.pieces[i].rank ? read(low.type, low.data, n * low.stride + p.pieces[i].first_rank + r) : 0.0F,
        terms);
  static_cast<bf16*>(low.terms)[at] = terms[0];
  static_cast<bf16*>(low.terms)[low.rows * p.padded + at] = terms[1];
}

/// One thread an element: the factors of `project`, of `expand`, then `low`.
__global__ void prepare_kernel(const __grid_constant__ LowRankParams project,
                               const __grid_constant__ LowRankParams expand,
                               const __grid_constant__ LowParams low) {
  std::int64_t block = blockIdx.x;
  for (int i = 0; i < project.factor_count; ++i) {
    const std::int64_t blocks = prepare_blocks(prepare_elements(project, i));
    if (block < blocks)
      return split_factor(project, project.factors[i], block * kPrepareThreads + threadIdx.x);
    block -= blocks;
  }
  for (int i = 0; i < expand.factor_count; ++i) {
    const std::int64_t blocks = prepare_blocks(prepare_elements(expand, i));
    if (block < blocks) return split_factor(expand, expand.factors[i], block * kPrepareThreads + threadIdx.x);
    block -= blocks;
  }
  split_low(project, low, block * kPrepareThreads + threadIdx.x);
}

/// Elements of one stage in shared memory: a tile of the wide matrix and the terms beside it.
__host__ __device__ int project_stage(int padded) {
  return (kTile + kTerms * padded) * kPitch;
}
/// Puts an element of a low matrix and its terms where they belong. Padding has terms alone.
__device__ void store_low(const LowRankParams& p, const LowParams& low, std::int64_t row, std::int64_t rank,
                          float value) {
  int piece = 0;
  while (piece + 1 < p.piece_count && rank >= p.pieces[piece + 1].padded_rank) ++piece;
  const std::int64_t r = rank - p.pieces[piece].padded_rank;
  bf16 terms[kTerms];
  split(value, terms);
  static_cast<bf16*>(low.terms)[row * p.padded + rank] = terms[0];
  static_cast<bf16*>(low.terms)[(low.rows + row) * p.padded + rank] = terms[1];
  if (r < p.pieces[piece].rank)
    write(low.type, low.data, row * low.stride + p.pieces[piece].first_rank + r, value);
}

/// A group's share of launch_project. The lower half of the warps takes the first 32 columns of a tile, the
/// upper half the others.
template <int kStages, int kTiles>
__device__ void project_group(const LowRankParams& p, const WideParams& w, const WideGroup& group,
                              const LowParams& low, bf16* stages) {
  constexpr int kPadded = kTiles * 8;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp % 4;
  const int half = threadIdx.x / kWarp / 4;
  const bf16* wide = static_cast<const bf16*>(w.data) + group.first;
  const bf16* terms = static_cast<const bf16*>(p.terms) + group.terms_offset;
  const std::int64_t count = group.count;
  const int all_steps = static_cast<int>((count + kTile - 1) / kTile);
  const int parts = static_cast<int>(gridDim.z);
  const int first_step = all_steps * static_cast<int>(blockIdx.z) / parts;
  const int steps = all_steps * (static_cast<int>(blockIdx.z) + 1) / parts - first_step;
  const auto start = [&](int step) {
    if (step < steps) {
      bf16* stage = stages + step % kStages * project_stage(kPadded);
      const std::int64_t column = static_cast<std::int64_t>(first_step + step) * kTile;
      fetch<kTile, kTile, kProjectThreads>(stage, wide, w.stride, row, w.rows, column, count);
      // The terms follow each other: kTerms times kPadded rows.
      fetch<kTile, kTerms * kPadded, kProjectThreads>(stage + kTile * kPitch, terms, count, 0,
                                                      kTerms * kPadded, column, count);
    }
    commit_copies();
  };
  Sums<kTiles> sums;
  for (int step = 0; step < kStages - 1; ++step) start(step);
  for (int step = 0; step < steps; ++step) {
    wait_copies<kStages - 2>();
    __syncthreads();
    start(step + kStages - 1);
    const bf16* tile = stages + step % kStages * project_stage(kPadded);
    const bf16* factor = tile + kTile * kPitch;
#pragma unroll
    for (int i = 0; i < kTile / 2; i += 16) {
      const int k = half * (kTile / 2) + i;
      unsigned a[4];
      load_blocks(a, tile + (warp * 16 + lane % 16) * kPitch + k + lane / 16 * 8);
#pragma unroll
      for (int t = 0; t < kTiles; t += 2) {
        // Two tiles of ranks at once: lanes 16 to 31 give the addresses of the second.
        unsigned high[4];
        unsigned rest[4];
        const bf16* at = factor + ((t + lane / 16) * 8 + lane % 8) * kPitch + k + lane / 8 % 2 * 8;
        load_blocks(high, at);
        load_blocks(rest, at + kPadded * kPitch);
        multiply_add(sums.high[t], a, {high[0], high[1]});
        multiply_add(sums.high[t + 1], a, {high[2], high[3]});
        multiply_add(sums.low[t], a, {rest[0], rest[1]});
        multiply_add(sums.low[t + 1], a, {rest[2], rest[3]});
      }
    }
  }
  // The halves are joined through the stages, which nobody reads any more.
  wait_copies<0>();
  __syncthreads();
  auto* others = reinterpret_cast<float4*>(stages);
  const int at = static_cast<int>(threadIdx.x) % kThreads;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    if (half == 0) continue;
    others[(2 * t) * kThreads + at] = *reinterpret_cast<const float4*>(sums.high[t]);
    others[(2 * t + 1) * kThreads + at] = *reinterpret_cast<const float4*>(sums.low[t]);
  }
  __syncthreads();
  if (half == 1) return;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const float4 high = others[(2 * t) * kThreads + at];
    const float4 rest = others[(2 * t + 1) * kThreads + at];
    const float more[2][4] = {{high.x, high.y, high.z, high.w}, {rest.x, rest.y, rest.z, rest.w}};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums.high[t][i] += more[0][i];
      sums.low[t][i] += more[1][i];
      const std::int64_t n = row + warp * 16 + lane / 4 + i / 2 * 8;
      const std::int64_t rank = group.padded_rank + t * 8 + lane % 4 * 2 + i % 2;
      if (n >= w.rows) continue;
      const float value = group.scale * sums.total(t, i);
      if (parts > 1) {
        w.partial[(blockIdx.z * w.rows + n) * p.padded + rank] = value;
      } else {
        store_low(p, low, n, rank, value);
      }
    }
  }
}

/// low [64 rows, ranks of a group] = scale wide factor^T: a block walks along a share of the columns.
template <int kStages>
__global__ void __launch_bounds__(kProjectThreads)
    project_kernel(const __grid_constant__ LowRankParams p, const __grid_constant__ WideParams w,
                   const __grid_constant__ LowParams low) {
  extern __shared__ __align__(16) bf16 stages[];
  const WideGroup& group = w.groups[blockIdx.y];
  switch (group.padded) {
    case 16:
      return project_group<kStages, 2>(p, w, group, low, stages);
    case 32:
      return project_group<kStages, 4>(p, w, group, low, stages);
    case 48:
      return project_group<kStages, 6>(p, w, group, low, stages);
    default:
      return project_group<kStages, 8>(p, w, group, low, stages);
  }
}

/// Adds the parts of a projection up in order; one thread an element.
__global__ void join_projection(LowRankParams p, LowParams low, const float* partial, int parts) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t count = low.rows * p.padded;
  if (at >= count) return;
  float sum = 0;
#pragma unroll 4
  for (int part = 0; part < parts; ++part) sum += partial[part * count + at];
  store_low(p, low, at / p.padded, at % p.padded, sum);
}

/// 4 bytes: two neighbouring elements of a fragment.
__device__ unsigned pair_at(const bf16* at) {
  return *reinterpret_cast<const unsigned*>(at);
}

constexpr int kExpandColumns = 256;  // of a block
constexpr int kExpandRows = 128;     // of a block: 32 a warp

/// wide (+)= scale low factor. Both low and factor come straight from memory as fragments; the columns of the
/// factor lie so that each lane ends up with 8 neighbours of a row. kSteps: padded ranks / 16, 0 for any
/// number.
template <int kSteps>
__global__ void __launch_bounds__(kThreads) expand_kernel(LowRankParams p, WideParams w, LowParams low) {
  std::int64_t index = blockIdx.x;
  int which = 0;
  for (; which + 1 < w.group_count; ++which) {
    const std::int64_t blocks = (w.groups[which].count + kExpandColumns - 1) / kExpandColumns;
    if (index < blocks) break;
    index -= blocks;
  }
  const WideGroup& group = w.groups[which];
  const int steps = kSteps > 0 ? kSteps : static_cast<int>(group.padded / 16);
  const int lane = threadIdx.x % kWarp;
  const int quad = lane / 4;
  const int in_quad = lane % 4;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.y) * kExpandRows + threadIdx.x / kWarp * 32 + quad;
  const bf16* factor = static_cast<const bf16*>(p.expand) + group.expand_offset;
  const bf16* ranks = static_cast<const bf16*>(low.terms) + group.padded_rank + 2 * in_quad;
  const auto load_low = [&](unsigned(&a)[4], int half, int step) {
    const std::int64_t first = row + half * 16;
    const std::int64_t second = first + 8;
    const bf16* at = ranks + step * 16;
    a[0] = first < w.rows ? pair_at(at + first * p.padded) : 0;
    a[1] = second < w.rows ? pair_at(at + second * p.padded) : 0;
    a[2] = first < w.rows ? pair_at(at + first * p.padded + 8) : 0;
    a[3] = second < w.rows ? pair_at(at + second * p.padded + 8) : 0;
  };
  unsigned kept[2][kSteps > 0 ? kSteps : 1][4];
  if constexpr (kSteps > 0) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) load_low(kept[half][step], half, step);
    }
  }
  const std::int64_t begin = index * kExpandColumns;
  const std::int64_t end = begin + kExpandColumns < group.count ? begin + kExpandColumns : group.count;
  for (std::int64_t column = begin; column < end; column += kGroup) {
    const bool inside = column + in_quad * 8 < group.count;
    Pack<bf16, 8> y[4] = {};
    bf16* at = static_cast<bf16*>(w.data) + row * w.stride + group.first + column + in_quad * 8;
    if (w.add) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (inside && row + i * 8 < w.rows)
          y[i] = *reinterpret_cast<const Pack<bf16, 8>*>(at + i * 8 * w.stride);
      }
    }
    float sums[2][4][4] = {};
    const auto multiply_step = [&](int step, const unsigned(&a0)[4], const unsigned(&a1)[4]) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const bf16* from = factor + (column + j * 8 + quad) * group.padded + step * 16 + 2 * in_quad;
        const unsigned b[2] = {pair_at(from), pair_at(from + 8)};
        multiply_add(sums[0][j], a0, b);
        multiply_add(sums[1][j], a1, b);
      }
    };
    if constexpr (kSteps > 0) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) multiply_step(step, kept[0][step], kept[1][step]);
    } else {
      for (int step = 0; step < steps; ++step) {
        unsigned a0[4];
        unsigned a1[4];
        load_low(a0, 0, step);
        load_low(a1, 1, step);
        multiply_step(step, a0, a1);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!inside || row + i * 8 >= w.rows) continue;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          const float delta = group.scale * sums[i / 2][j][i % 2 * 2 + b];
          y[i].v[2 * j + b] = from_float<bf16>(to_float(y[i].v[2 * j + b]) + delta);
        }
      }
      *reinterpret_cast<Pack<bf16, 8>*>(at + i * 8 * w.stride) = y[i];
    }
  }
}

}  // namespace

cudaError_t launch_prepare(const LowRankParams& project, const LowRankParams& expand, const LowParams& low,
                           cudaStream_t stream) {
  std::int64_t blocks = prepare_blocks(low.rows * project.padded);
  for (const LowRankParams* p : {&project, &expand}) {
    for (int i = 0; i < p->factor_count; ++i) blocks += prepare_blocks(prepare_elements(*p, i));
  }
  if (blocks == 0) return cudaSuccess;
  prepare_kernel<<<grid_of(blocks, 1), kPrepareThreads, 0, stream>>>(project, expand, low);
  return cudaGetLastError();
}

cudaError_t launch_project(const LowRankParams& ranks, const WideParams& wide, const LowParams& low,
                           cudaStream_t stream) {
  std::int64_t widest = 16;
  for (int i = 0; i < wide.group_count; ++i) widest = std::max(widest, wide.groups[i].padded);
  const std::int64_t parts = project_parts(wide);
  const dim3 grid(grid_of(wide.rows, kTile), static_cast<unsigned>(wide.group_count),
                  static_cast<unsigned>(parts));
  const std::size_t stage = sizeof(bf16) * static_cast<std::size_t>(project_stage(static_cast<int>(widest)));
  const auto launch = [&](auto kernel, std::size_t stages) {
    const cudaError_t error = allow_shared(kernel, stages * stage);
    if (error != cudaSuccess) return error;
    kernel<<<grid, kProjectThreads, stages * stage, stream>>>(ranks, wide, low);
    return cudaGetLastError();
  };
  // The more tiles on their way, the nearer to the memory's rate.
  cudaError_t error = cudaSuccess;
  if (6 * stage <= kProjectShared) {
    error = launch(project_kernel<6>, 6);
  } else if (4 * stage <= kProjectShared) {
    error = launch(project_kernel<4>, 4);
  } else {
    error = launch(project_kernel<3>, 3);
  }
  if (error != cudaSuccess || parts == 1) return error;
  join_projection<<<grid_of(low.rows * ranks.padded, 256), 256, 0, stream>>>(ranks, low, wide.partial,
                                                                             static_cast<int>(parts));
  return cudaGetLastError();
}

std::int64_t project_parts(const WideParams& wide) {
  std::int64_t fewest = std::int64_t{1} << 40U;  // steps of the narrowest group
  for (int i = 0; i < wide.group_count; ++i) fewest = std::min(fewest, ceil_div(wide.groups[i].count, kTile));
  // Two blocks for each multiprocessor; a part of fewer than 8 steps is not worth its start.
  const std::int64_t blocks = ceil_div(std::max<std::int64_t>(wide.rows, 1), kTile) * wide.group_count;
  return std::clamp<std::int64_t>(ceil_div(2 * kMultiprocessors, std::max<std::int64_t>(blocks, 1)), 1,
                                  std::max<std::int64_t>(fewest / 8, 1));
}

cudaError_t launch_expand(const LowRankParams& ranks, const WideParams& wide, const LowParams& low,
                          cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(column_blocks(wide, kExpandColumns)),
                  grid_of(wide.rows, kExpandRows));
  std::int64_t padded = wide.groups[0].padded;
  for (int i = 1; i < wide.group_count; ++i) {
    if (wide.groups[i].padded != padded) padded = 0;
  }
  switch (padded) {
    case 16:
      expand_kernel<1><<<grid, kThreads, 0, stream>>>(ranks, wide, low);
      break;
    case 32:
      expand_kernel<2><<<grid, kThreads, 0, stream>>>(ranks, wide, low);
      break;
    case 48:
      expand_kernel<3><<<grid, kThreads, 0, stream>>>(ranks, wide, low);
      break;
    default:
      expand_kernel<0><<<grid, kThreads, 0, stream>>>(ranks, wide, low);
  }
  return cudaGetLastError();
}

}  // namespace candela::cuda
