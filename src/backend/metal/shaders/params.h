#ifndef CANDELA_METAL_SHADERS_PARAMS_H
#define CANDELA_METAL_SHADERS_PARAMS_H

// The constants of every own shader, as host and GPU both see them. Sizes and strides are in elements.
#if !defined(__METAL_VERSION__)
#include <cstdint>
#endif

namespace candela {
namespace shader {

enum { kMaxLoopRank = 6, kMaxBatchRank = 4, kMaxLoopOperands = 5 };

/// What a shader found out of range: `value` outside of [0, bound). Zero until the first one of a command
/// buffer; words of 32 bits, as atomics are.
enum FaultCode {
  kNoFault,
  kEmbeddingId,
  kGatherIndex,
  kTarget,
  kPosition,
  kFirstBound,
  kBoundOrder,
  kLastBound
};
struct FaultSlot {
  uint32_t reported, code;
  int64_t value, bound;
};

/// Where operand rows of a strided loop start: index -> offset over the outer dimensions.
struct LoopParams {
  uint32_t rank;
  uint32_t inner;                      // length of the innermost dimension
  uint32_t outer_shape[kMaxLoopRank];  // the dimensions before it, outermost first; rank - 1 of them
  int64_t strides[kMaxLoopOperands][kMaxLoopRank];  // the innermost last
};

/// Lines along one dimension of up to three operands, `step` within a line; the other dimensions are the
/// outer ones.
struct LineParams {
  uint32_t outer_rank;
  uint32_t outer_shape[kMaxLoopRank];
  int64_t outer[3][kMaxLoopRank];
  int64_t step[3];
};

struct UnaryParams {
  LoopParams loop;
  uint32_t op;
  float alpha, beta;
};

/// Operands out, gate, up; or dgate, dup, gate, up, dy.
struct GatedParams {
  LoopParams loop;
  uint32_t op;  // of the gate: its number in UnaryOp
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
  int64_t bias_step;
};

/// y [m, n] = x [m, k] w^T (+ bias) + scale xa [m, rank] b^T.
struct LoraParams {
  uint32_t m, n, k, rank;
  int64_t x_row, x_column, w_row, w_column, xa_row, xa_column, b_row, b_column, y_row;
  float scale;
  uint32_t has_bias;
  int64_t bias_step;
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

/// Operand 0 of the lines (out or dy) and the index, operand 1, have `picks` elements; operand 2 (x or dx)
/// has `length`.
struct GatherParams {
  LineParams lines;
  uint32_t length, picks;
};

/// out [count, width] = weight [classes, width] at ids [count]; out (or dy) by rows.
struct EmbeddingParams {
  uint32_t classes, count, width;
  int64_t weight_row, weight_column, id_step, out_row, out_column;
};

/// Operand 0 of the lines is x, operand 1 the result.
struct ArgmaxParams {
  LineParams lines;
  uint32_t length;
};

/// x, out [B, T, H, D] with unit last stride; positions [B, T]. Pairs (i, i + half); `length` rows of tables.
struct RopeParams {
  uint32_t shape[4];
  uint32_t half_size, length, inverse;
  int64_t x_strides[3], out_strides[3], position_strides[2];
  int64_t cos_row, cos_column, sin_row, sin_column;
};

/// Element i of the row-major order takes the number at position offset + i of the stream of `seed`.
struct UniformParams {
  LoopParams loop;
  uint32_t count;
  uint64_t seed, offset;
  float range, low, least, most;
};
/// Element i takes the numbers at offset + 2 i and the one behind it.
struct NormalParams {
  LoopParams loop;
  uint64_t seed, offset;
  float mean, deviation;
};
struct DropoutParams {
  LoopParams loop;
  uint32_t count;
  uint64_t seed, offset;
  float p, scale;
  uint32_t has_base;
};

/// q, out and their gradients [B, T, H, D]; k, v and theirs [B, S, K, D]: strides of all but the last
/// dimension, whose stride is 1.
struct HeadStrides {
  int64_t batch, row, head;
};

/// backend/args/attention.h; statistics [B, H, T] are contiguous.
struct AttentionParams {
  HeadStrides q, k, v, out;
  uint32_t queries, keys, heads, group, size;                         // `group` query heads share a key head
  uint32_t causal, has_statistics, has_q_start, sequences, has_bias;  // no sequences: not packed
  uint32_t in_fours;  // heads may be read four elements at a time
  float scale;
  int64_t window, window_after, q_start_step, cu_seqlens_step;
  int64_t bias_head, bias_step, reach;
};
struct AttentionGradParams {
  AttentionParams forward;
  HeadStrides dout, dq, dk, dv;
};

/// Rows of logits [N, classes] and of what belongs to each row; loss stands for dloss in a gradient.
struct LossParams {
  uint32_t classes, gradient;
  int64_t ignored;
  int64_t logits_row, logits_column, target_step, loss_step, lse_step, dlogits_row, dlogits_column;
};
struct SumParams {
  uint32_t count, accumulate;
};

struct AdamwParams {
  uint32_t count;
  float beta1, beta2, rest1, rest2, eps;
};

struct AdamwFactorsParams {
  float log_beta1, log_beta2, weight_decay, clip_norm;
};

}  // namespace shader
}  // namespace candela

#endif
