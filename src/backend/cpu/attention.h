#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "backend/kernels.h"

/// What the attention kernels share: which keys a query sees, blocks of heads as f32 matrices, and the row
/// steps of the online softmax.
namespace candela::attention_detail {

inline constexpr std::int64_t kQueryBlock = 64;
inline constexpr std::int64_t kKeyBlock = 256;

/// The keys a query sees are one interval.
struct Range {
  std::int64_t begin = 0, end = 0;
};

struct Geometry {
  std::int64_t batch, queries, heads, size, keys, key_heads, group;

  explicit Geometry(const AttentionArgs& args)
      : batch(args.q.shape[0]),
        queries(args.q.shape[1]),
        heads(args.q.shape[2]),
        size(args.q.shape[3]),
        keys(args.k.shape[1]),
        key_heads(args.k.shape[2]),
        group(heads / key_heads) {}
};

/// Keys that query `t` of row `b` sees.
Range visible_keys(const AttentionArgs& args, std::int64_t b, std::int64_t t);

/// Head `h` of row `b` as a matrix [T or S, D].
inline Matrix head_of(const TensorArg& x, std::int64_t b, std::int64_t h) {
  return Matrix{x.data, x.dtype, x.strides[1], 1}.at(0, b * x.strides[0] + h * x.strides[2]);
}

/// Rows [first, first + count) of `x` as f32: in place if they are, else converted into `buffer`.
inline Matrix rows_f32(const Matrix& x, std::int64_t first, std::int64_t count, std::int64_t size,
                       float* buffer) {
  const Matrix rows = x.at(first, 0);
  return x.dtype == DType::F32 ? rows : gemm_detail::pack_f32(rows, count, size, buffer);
}

/// A row of scores becomes a row of weights exp(score - new maximum), zero outside `seen`; `top` and `total`
/// follow, and `out` [size] is rescaled to the new maximum.
void online_softmax_row(float* scores, std::int64_t count, Range seen, float& top, float& total, float* out,
                        std::int64_t size);

/// out = sums / total in out's dtype; zeros for a row that saw nothing.
void finish_row(const float* sums, float total, void* out, DType dtype, std::int64_t size);

/// Sum of a[i] b[i].
float dot(const void* a, const void* b, DType dtype, std::int64_t size);

/// scores -> weights exp(score - lse), gradients -> weight (gradient - delta) scale; zero outside `seen`.
/// Without a `delta` the row holds all keys of its query and the sum of weight times gradient is taken from
/// it.
void score_gradient_row(float* scores, float* gradients, std::int64_t count, Range seen, float lse,
                        const float* delta, float scale);

/// One query per sequence: keys and values are read once, in their own dtype, for all `group` query heads
/// that share them.
void decode(const AttentionArgs& args, std::int64_t b, std::int64_t key_head);

}  // namespace candela::attention_detail
