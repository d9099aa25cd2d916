#ifndef CANDELA_METAL_SHADERS_PARAMS_H
#define CANDELA_METAL_SHADERS_PARAMS_H

// The constants of every own shader, as host and GPU both see them. Sizes and strides are in elements.
#if !defined(__METAL_VERSION__)
#include <cstdint>
#endif

namespace candela {
namespace shader {

enum { kMaxLoopRank = 6, kMaxBatchRank = 4 };

/// Where operand rows of a strided loop start: index -> offset over the outer dimensions.
struct LoopParams {
  uint32_t rank;
  uint32_t inner;                      // length of the innermost dimension
  uint32_t outer_shape[kMaxLoopRank];  // the dimensions before it, outermost first; rank - 1 of them
  int64_t strides[3][kMaxLoopRank];    // of up to three operands, the innermost last
};

struct UnaryParams {
  LoopParams loop;
  uint32_t op;
  float alpha, beta;
};

struct FillParams {
  LoopParams loop;
  float value;
};

/// Sums over the dimensions that `out` lacks: one result per index over `kept`.
struct ReduceParams {
  uint32_t op;
  float scale;  // on the result
  uint32_t kept_rank, reduced_rank;
  uint32_t outputs, length;  // products of the sizes below
  uint32_t kept_shape[kMaxLoopRank], reduced_shape[kMaxLoopRank];
  int64_t kept_strides[kMaxLoopRank], out_strides[kMaxLoopRank], reduced_strides[kMaxLoopRank];
};

/// C [m, n] = alpha A B + beta C (+ bias), for every index over the batch dimensions.
struct MatmulParams {
  uint32_t m, n, k;
  uint32_t batch_rank;
  uint32_t batch_shape[kMaxBatchRank];
  int64_t a_batch[kMaxBatchRank], b_batch[kMaxBatchRank], out_batch[kMaxBatchRank];
  int64_t a_row, a_column, b_row, b_column, out_row, out_column;
  float alpha, beta;
  uint32_t has_bias;
};

/// y [m, n] = x [m, k] w^T (+ bias) + scale xa [m, rank] b^T.
struct LoraParams {
  uint32_t m, n, k, rank;
  int64_t x_row, x_column, w_row, w_column, xa_row, xa_column, b_row, b_column, y_row;
  float scale;
  uint32_t has_bias;
};

/// Rows of `length` elements, `stride` apart from each other and `step` within.
struct SoftmaxParams {
  uint32_t length, inner, outer;
  uint32_t log;
};

struct NormParams {
  uint32_t rows, length;
  float eps, weight_offset;
  uint32_t has_residual, has_statistics, has_weight, has_bias, has_sum_gradient;
};

/// Sums of columns: rows [first, first + chunk) of each of `chunks` pieces.
struct ColumnParams {
  uint32_t rows, length, chunk;
  uint32_t accumulate_products, has_mean;
};

struct TopkParams {
  uint32_t length, k;
};

/// Rows along the gathered dimension: `length` elements of dx, `picks` of dy and the index, each `step`
/// apart.
struct GatherParams {
  uint32_t outer_rank;
  uint32_t outer_shape[kMaxLoopRank];  // the other dimensions
  uint32_t length, picks;
  int64_t dy_outer[kMaxLoopRank], index_outer[kMaxLoopRank], dx_outer[kMaxLoopRank];
  int64_t dy_step, index_step, dx_step;
};

struct AdamwParams {
  uint32_t count;
  float lr, beta1, beta2, rest1, rest2, eps, keep, grad_scale, correction1, correction2;
};

}  // namespace shader
}  // namespace candela

#endif
