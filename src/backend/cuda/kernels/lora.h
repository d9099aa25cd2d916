#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

inline constexpr int kMaxPieces = 16;
/// Ranks that launch_project and launch_outer take at once.
inline constexpr int kMaxGroupRank = 64;
/// bf16 terms that an f32 operand enters the tensor cores as: 16 bits of its 24.
inline constexpr int kTerms = 2;

/// The ranks of one branch, or 64 of them. Inside the kernels ranks are counted with every piece padded to a
/// multiple of 16: rank first_rank + i is padded_rank + i.
struct RankPiece {
  std::int64_t first_rank, rank, padded_rank;
};

/// A low-rank factor in memory: element (r, c) is data[r rank_stride + c column_stride], c in [0, count), r
/// counted from the piece's first rank.
struct FactorParams {
  void* data;
  std::int64_t rank_stride, column_stride, count;
  int piece;
  std::int64_t terms_offset,
      /// where its first term [padded rank][count] begins, and to the next
      terms_step;
  /// where it begins for launch_expand, and from column to column
  std::int64_t expand_offset, expand_pitch;
};

struct LowRankParams {
  RankPiece pieces[kMaxPieces];
  int piece_count;
  /// ranks, padded
  std::int64_t padded;
  FactorParams factors[kMaxPieces];
  int factor_count;
  /// f32 or bf16
  Type factor_type;
  /// bf16: for launch_project; null: not wanted
  void* terms;
  /// bf16: for launch_expand; null: not wanted
  void* expand;
};
/// low [rows, ranks], f32 or bf16, and its bf16 terms [kTerms][rows][padded].
struct LowParams {
  void* data;
  std::int64_t rows, stride;
  Type type;
  void* terms;
};
/// Brings the factors of both and `low` (rows = 0: none) into the forms that the products read.
cudaError_t launch_prepare(const LowRankParams& project, const LowRankParams& expand, const LowParams& low,
                           cudaStream_t stream);

/// Columns [first, first + count) of a wide bf16 matrix beside padded ranks [padded_rank, padded_rank +
/// padded).
struct WideGroup {
  std::int64_t first, count;
  std::int64_t padded_rank, padded;
  /// of its factor, [kTerms][padded][count]
  std::int64_t terms_offset;
  /// of its factor, [count up to 32][padded]
  std::int64_t expand_offset;
  float scale;
  /// launch_outer: element (r, c) at r rank_stride + c column_stride, r a rank of the piece
  void* result;
  std::int64_t rank_stride, column_stride;
};
struct WideParams {
  void* data;
  std::int64_t rows, stride;
  WideGroup groups[kMaxPieces];
  int group_count;
  /// launch_expand: to what is there
  bool add;
  /// launch_outer
  Type result_type;
  /// launch_outer: f32 [outer_parts][outer_size]; launch_project: f32 [project_parts][rows][padded], null
  /// where that is one part
  float* partial;
};
/// low = scale wide factor^T, with its terms. Where rows are few the columns are cut into parts, which are
/// added up in a fixed order.
cudaError_t launch_project(const LowRankParams& ranks, const WideParams& wide, const LowParams& low,
                           cudaStream_t stream);
/// wide (+)= scale low factor.
cudaError_t launch_expand(const LowRankParams& ranks, const WideParams& wide, const LowParams& low,
                          cudaStream_t stream);
/// result = scale low^T wide, of two pairs in one launch (group_count 0: none): sums over the rows, in a
/// fixed order.
cudaError_t launch_outer(const LowRankParams& ranks, const WideParams& first, const LowParams& first_low,
                         const WideParams& second, const LowParams& second_low, cudaStream_t stream);
std::int64_t project_parts(const WideParams& wide);
std::int64_t outer_parts(const WideParams& wide);
std::int64_t outer_size(const WideParams& wide);

}  // namespace candela::cuda
