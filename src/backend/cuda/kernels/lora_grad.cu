#include "backend/cuda/kernels/lora.cuh"

namespace candela::cuda {
namespace {

constexpr int kOuterStages = 3;

/// Of a row of a low matrix in shared memory; rows 16 bytes apart in banks either way.
__host__ __device__ int low_pitch(int padded) {
  return padded <= 32 ? 40 : kPitch;
}
__host__ __device__ int outer_stage(int padded) {
  return kTile * (kPitch + kTerms * low_pitch(padded));
}

__host__ __device__ std::int64_t group_size(const WideGroup& group) {
  return group.padded * group.count;
}

/// The products of one low matrix: `parts` shares of the rows, in `blocks` blocks.
struct OuterTask {
  WideParams wide;
  LowParams low;
  std::int64_t parts, rows_per_part, part_size, blocks;
};
struct OuterTasks {
  OuterTask tasks[2];
};

/// A part of result[ranks, 64 columns] = low^T wide of one group: the sum over a share of the rows.
template <int kTiles>
__device__ void outer_group(const LowRankParams& p, const OuterTask& task, const WideGroup& group,
                            std::int64_t column, std::int64_t part, float* partial, bf16* stages) {
  constexpr int kPadded = kTiles * 8;
  const WideParams& w = task.wide;
  const int pitch = low_pitch(kPadded);
  const std::int64_t begin = part * task.rows_per_part;
  const std::int64_t end = begin + task.rows_per_part < w.rows ? begin + task.rows_per_part : w.rows;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const bf16* wide = static_cast<const bf16*>(w.data) + group.first;
  const bf16* terms = static_cast<const bf16*>(task.low.terms) + group.padded_rank;
  const std::int64_t count = group.count;
  const std::int64_t rows = w.rows;
  const std::int64_t stride = w.stride;
  const std::int64_t low_stride = p.padded;
  const int steps = begin < end ? static_cast<int>((end - begin + kTile - 1) / kTile) : 0;
  const auto start = [&](int step) {
    if (step < steps) {
      bf16* stage = stages + step % kOuterStages * outer_stage(kPadded);
      const std::int64_t row = begin + static_cast<std::int64_t>(step) * kTile;
      fetch<kTile, kTile, kThreads>(stage, wide, stride, row, end, column, count);
#pragma unroll
      for (int t = 0; t < kTerms; ++t)
        fetch<kPadded, kTile, kThreads>(stage + kTile * (kPitch + t * pitch), terms + t * rows * low_stride,
                                        low_stride, row, end, 0, kPadded, pitch);
    }
    commit_copies();
  };
  Sums<kTiles> sums;
  for (int step = 0; step < kOuterStages - 1; ++step) start(step);
  for (int step = 0; step < steps; ++step) {
    wait_copies<kOuterStages - 2>();
    __syncthreads();
    start(step + kOuterStages - 1);
    const bf16* tile = stages + step % kOuterStages * outer_stage(kPadded);
    const bf16* ranks = tile + kTile * kPitch;
#pragma unroll
    for (int k = 0; k < kTile; k += 16) {
      unsigned a[4];
      load_blocks_turned(a, tile + (k + lane % 8 + lane / 16 * 8) * kPitch + warp * 16 + lane / 8 % 2 * 8);
#pragma unroll
      for (int t = 0; t < kTiles; t += 2) {
        unsigned high[4];
        unsigned rest[4];
        const bf16* at = ranks + (k + lane % 16) * pitch + (t + lane / 16) * 8;
        load_blocks_turned(high, at);
        load_blocks_turned(rest, at + kTile * pitch);
        multiply_add(sums.high[t], a, {high[0], high[1]});
        multiply_add(sums.high[t + 1], a, {high[2], high[3]});
        multiply_add(sums.low[t], a, {rest[0], rest[1]});
        multiply_add(sums.low[t + 1], a, {rest[2], rest[3]});
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t c = column + warp * 16 + lane / 4 + i / 2 * 8;
      const int r = t * 8 + lane % 4 * 2 + i % 2;
      if (c < count) partial[c * kPadded + r] = sums.total(t, i);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    outer_kernel(const __grid_constant__ LowRankParams p, const __grid_constant__ OuterTasks all) {
  extern __shared__ __align__(16) bf16 stages[];
  const int number = blockIdx.x < all.tasks[0].blocks ? 0 : 1;
  const OuterTask& task = all.tasks[number];
  const WideParams& w = task.wide;
  const auto block = static_cast<unsigned>(blockIdx.x - (number == 0 ? 0 : all.tasks[0].blocks));
  const auto parts = static_cast<unsigned>(task.parts);
  const std::int64_t part = block % parts;
  std::int64_t index = block / parts;
  std::int64_t offset = part * task.part_size;
  int which = 0;
  for (; which + 1 < w.group_count; ++which) {
    const std::int64_t blocks = (w.groups[which].count + kTile - 1) / kTile;
    if (index < blocks) break;
    index -= blocks;
    offset += group_size(w.groups[which]);
  }
  const WideGroup& group = w.groups[which];
  float* partial = w.partial + offset;
  switch (group.padded) {
    case 16:
      return outer_group<2>(p, task, group, index * kTile, part, partial, stages);
    case 32:
      return outer_group<4>(p, task, group, index * kTile, part, partial, stages);
    case 48:
      return outer_group<6>(p, task, group, index * kTile, part, partial, stages);
    default:
      return outer_group<8>(p, task, group, index * kTile, part, partial, stages);
  }
}

/// Adds the parts up in order and puts the results where they belong. Padding goes nowhere.
__global__ void join_parts(const __grid_constant__ LowRankParams p, const __grid_constant__ OuterTasks all) {
  std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int number = at < all.tasks[0].part_size ? 0 : 1;
  if (number == 1) at -= all.tasks[0].part_size;
  const OuterTask& task = all.tasks[number];
  const WideParams& w = task.wide;
  if (at >= task.part_size) return;
  float sum = 0;
  constexpr int kAtOnce = 8;  // loads in flight
  std::int64_t part = 0;
  for (; part + kAtOnce <= task.parts; part += kAtOnce) {
    float values[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) values[i] = w.partial[(part + i) * task.part_size + at];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) sum += values[i];
  }
  for (; part < task.parts; ++part) sum += w.partial[part * task.part_size + at];
  int which = 0;
  while (at >= group_size(w.groups[which])) at -= group_size(w.groups[which++]);
  const WideGroup& group = w.groups[which];
  const std::int64_t rank = group.padded_rank + at % group.padded;
  int piece = 0;
  while (piece + 1 < p.piece_count && rank >= p.pieces[piece + 1].padded_rank) ++piece;
  const std::int64_t r = rank - p.pieces[piece].padded_rank;
  if (r >= p.pieces[piece].rank) return;
  // Ranks of the result count from the group's first.
  int first = 0;
  while (p.pieces[first].padded_rank < group.padded_rank) ++first;
  const std::int64_t result_rank = p.pieces[piece].first_rank - p.pieces[first].first_rank + r;
  write(w.result_type, group.result,
        result_rank * group.rank_stride + at / group.padded * group.column_stride, group.scale * sum);
}

}  // namespace

std::int64_t outer_parts(const WideParams& wide) {
  // Eight blocks for each multiprocessor even out what they do; 512 rows at least are worth one.
  const std::int64_t most = std::max<std::int64_t>(wide.rows / (8 * kTile), 1);
  return std::clamp<std::int64_t>(
      8 * kMultiprocessors / std::max<std::int64_t>(column_blocks(wide, kTile), 1), 1, most);
}

std::int64_t outer_size(const WideParams& wide) {
  std::int64_t size = 0;
  for (int i = 0; i < wide.group_count; ++i) size += group_size(wide.groups[i]);
  return size;
}

cudaError_t launch_outer(const LowRankParams& ranks, const WideParams& first, const LowParams& first_low,
                         const WideParams& second, const LowParams& second_low, cudaStream_t stream) {
  OuterTasks all{{{first, first_low, 0, 0, 0, 0}, {second, second_low, 0, 0, 0, 0}}};
  int padded = 16;
  for (OuterTask& task : all.tasks) {
    if (task.wide.group_count == 0) continue;
    task.parts = outer_parts(task.wide);
    task.rows_per_part = ceil_div(ceil_div(task.wide.rows, task.parts), kTile) * kTile;
    task.part_size = outer_size(task.wide);
    task.blocks = column_blocks(task.wide, kTile) * task.parts;
    for (int i = 0; i < task.wide.group_count; ++i)
      padded = std::max(padded, static_cast<int>(task.wide.groups[i].padded));
  }
  const std::int64_t blocks = all.tasks[0].blocks + all.tasks[1].blocks;
  if (blocks == 0) return cudaSuccess;
  const std::size_t bytes = sizeof(bf16) * kOuterStages * static_cast<std::size_t>(outer_stage(padded));
  cudaError_t error = allow_shared(outer_kernel, bytes);
  if (error != cudaSuccess) return error;
  outer_kernel<<<grid_of(blocks, 1), kThreads, bytes, stream>>>(ranks, all);
  error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  join_parts<<<grid_of(all.tasks[0].part_size + all.tasks[1].part_size, 256), 256, 0, stream>>>(ranks, all);
  return cudaGetLastError();
}

}  // namespace candela::cuda
