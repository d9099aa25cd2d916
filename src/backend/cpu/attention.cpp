#include "backend/cpu/attention.h"

#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/table.h"

namespace candela {
namespace attention_detail {

Range visible_keys(const AttentionArgs& args, std::int64_t b, std::int64_t t) {
  const std::int64_t keys = args.k.shape[1];
  std::int64_t position = keys - args.q.shape[1] + t;
  if (args.q_start.present()) position = args.q_start.as<std::int32_t>()[b * args.q_start.strides[0]] + t;
  Range seen{0, keys};
  if (args.cu_seqlens.present()) {
    const auto bound = [&](std::int64_t n) {
      return std::int64_t{args.cu_seqlens.as<std::int32_t>()[n * args.cu_seqlens.strides[0]]};
    };
    // The sequence of t: between the last bound at or before it and the first after it.
    std::int64_t low = 0;
    std::int64_t high = args.cu_seqlens.shape[0];
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      (bound(middle) <= t ? low : high) = bound(middle) <= t ? middle + 1 : middle;
    }
    if (low > 0) seen.begin = std::clamp<std::int64_t>(bound(low - 1), 0, keys);
    if (low < args.cu_seqlens.shape[0]) seen.end = std::clamp<std::int64_t>(bound(low), 0, keys);
  }
  if (args.causal) seen.end = std::min(seen.end, position + 1);
  if (args.window > 0) seen.begin = std::max(seen.begin, position - args.window + 1);
  return seen.begin < seen.end ? seen : Range{seen.begin, seen.begin};
}

}  // namespace attention_detail

namespace {

using attention_detail::Geometry;
using attention_detail::head_of;
using attention_detail::kKeyBlock;
using attention_detail::kQueryBlock;
using attention_detail::Range;
using attention_detail::rows_f32;
using attention_detail::visible_keys;

/// Keys of any query in a block of at most kQueryBlock: their hull, and each query's own.
struct BlockRanges {
  Range rows[kQueryBlock];
  Range hull;

  BlockRanges(const AttentionArgs& args, std::int64_t b, std::int64_t first, std::int64_t count)
      : hull{args.k.shape[1], 0} {
    for (std::int64_t i = 0; i < count; ++i) {
      rows[i] = visible_keys(args, b, first + i);
      if (rows[i].begin >= rows[i].end) continue;
      hull.begin = std::min(hull.begin, rows[i].begin);
      hull.end = std::max(hull.end, rows[i].end);
    }
  }
  /// Row i's keys within [key, key + count), counted from `key`.
  Range within(std::int64_t i, std::int64_t key, std::int64_t count) const {
    const Range cut{std::clamp<std::int64_t>(rows[i].begin - key, 0, count),
                    std::clamp<std::int64_t>(rows[i].end - key, 0, count)};
    return cut.begin < cut.end ? cut : Range{count, count};
  }
};

/// One thread's buffers.
struct ForwardWork {
  explicit ForwardWork(std::int64_t size)
      : memory(2 * kQueryBlock * size + 2 * kKeyBlock * size + kQueryBlock * kKeyBlock),
        q(memory.data()),
        out(q + kQueryBlock * size),
        k(out + kQueryBlock * size),
        v(k + kKeyBlock * size),
        scores(v + kKeyBlock * size) {}
  Scratch<float> memory;
  float *q, *out, *k, *v, *scores;
};

/// Queries [first, first + count) of one head against all their keys, block by block, with the online softmax
/// (Milakov & Gimelshein, 2018).
void forward_block(const AttentionArgs& args, const Geometry& g, ForwardWork& work, std::int64_t b,
                   std::int64_t h, std::int64_t first) {
  const std::int64_t count = std::min(kQueryBlock, g.queries - first);
  const BlockRanges ranges(args, b, first, count);
  const Matrix q = rows_f32(head_of(args.q, b, h), first, count, g.size, work.q);
  const Matrix keys = head_of(args.k, b, h / g.group);
  const Matrix values = head_of(args.v, b, h / g.group);
  const Matrix out = {work.out, DType::F32, g.size, 1};
  std::fill_n(work.out, count * g.size, 0.0F);
  float tops[kQueryBlock];
  float totals[kQueryBlock] = {};
  std::fill_n(tops, kQueryBlock, -std::numeric_limits<float>::infinity());
  for (std::int64_t key = ranges.hull.begin; key < ranges.hull.end; key += kKeyBlock) {
    const std::int64_t width = std::min(kKeyBlock, ranges.hull.end - key);
    const Matrix scores = {work.scores, DType::F32, width, 1};
    gemm(count, width, g.size, q, rows_f32(keys, key, width, g.size, work.k).transposed(), scores,
         args.scale);
    for (std::int64_t i = 0; i < count; ++i) {
      attention_detail::online_softmax_row(work.scores + i * width, width, ranges.within(i, key, width),
                                           tops[i], totals[i], work.out + i * g.size, g.size);
    }
    gemm(count, g.size, width, scores, rows_f32(values, key, width, g.size, work.v), out, 1, 1);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    attention_detail::finish_row(work.out + i * g.size, totals[i],
                                 head_of(args.out, b, h).at(first + i, 0).data, args.out.dtype, g.size);
    if (args.lse.present()) {
      args.lse.as<float>()[b * args.lse.strides[0] + h * args.lse.strides[1] +
                           (first + i) * args.lse.strides[2]] = tops[i] + std::log(totals[i]);
    }
  }
}

bool unit_last(const TensorArg& x) {
  return x.strides[3] == 1 || x.shape[3] <= 1;
}

std::string attention_supports(const AttentionArgs& args) {
  if (args.q.dtype == DType::F64) return "f64 is for the composed reference";
  if (!unit_last(args.q) || !unit_last(args.k) || !unit_last(args.v) || !unit_last(args.out))
    return "needs unit last strides";
  return {};
}

void attention(const AttentionArgs& args, Stream&) {
  const Geometry g(args);
  if (g.queries == 1) {
    parallel_for(g.batch * g.key_heads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        attention_detail::decode(args, i / g.key_heads, i % g.key_heads);
    });
    return;
  }
  const std::int64_t blocks = (g.queries + kQueryBlock - 1) / kQueryBlock;
  parallel_for(g.batch * g.heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    ForwardWork work(g.size);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / blocks;
      forward_block(args, g, work, head / g.heads, head % g.heads, i % blocks * kQueryBlock);
    }
  });
}

/// One thread's buffers of the backward pass; dk and dv are sums over a whole sequence.
struct BackwardWork {
  explicit BackwardWork(const Geometry& g)
      : memory(3 * kQueryBlock * g.size + 2 * kKeyBlock * g.size + 2 * kQueryBlock * kKeyBlock),
        q(memory.data()),
        dout(q + kQueryBlock * g.size),
        dq(dout + kQueryBlock * g.size),
        k(dq + kQueryBlock * g.size),
        v(k + kKeyBlock * g.size),
        scores(v + kKeyBlock * g.size),
        slopes(scores + kQueryBlock * kKeyBlock),
        sums(2 * g.keys * g.size),
        dk(sums.data()),
        dv(dk + g.keys * g.size) {}
  Scratch<float> memory;
  float *q, *dout, *dq, *k, *v, *scores, *slopes;
  Scratch<float> sums;
  float *dk, *dv;
};

/// With P = exp(scale q k^T - lse), delta_i = dout_i . out_i and dS = P (dout v^T - delta) scale: dq = dS k,
/// dk += dS^T q, dv += P^T dout.
void backward_block(const AttentionGradArgs& args, const Geometry& g, BackwardWork& work, std::int64_t b,
                    std::int64_t h, std::int64_t first) {
  const AttentionArgs& forward = args.forward;
  const std::int64_t count = std::min(kQueryBlock, g.queries - first);
  const BlockRanges ranges(forward, b, first, count);
  const Matrix q = rows_f32(head_of(forward.q, b, h), first, count, g.size, work.q);
  const Matrix dout = rows_f32(head_of(args.dout, b, h), first, count, g.size, work.dout);
  const Matrix dq = {work.dq, DType::F32, g.size, 1};
  std::fill_n(work.dq, count * g.size, 0.0F);
  // sum_j P_ij dP_ij equals dout_i . out_i, but out was rounded to its dtype: where one block holds all keys,
  // the sum itself is taken.
  const bool whole = ranges.hull.end - ranges.hull.begin <= kKeyBlock;
  float deltas[kQueryBlock];
  float lses[kQueryBlock];
  for (std::int64_t i = 0; i < count; ++i) {
    deltas[i] =
        attention_detail::dot(head_of(args.dout, b, h).at(first + i, 0).data,
                              head_of(forward.out, b, h).at(first + i, 0).data, forward.out.dtype, g.size);
    lses[i] = forward.lse.as<float>()[b * forward.lse.strides[0] + h * forward.lse.strides[1] +
                                      (first + i) * forward.lse.strides[2]];
  }
  for (std::int64_t key = ranges.hull.begin; key < ranges.hull.end; key += kKeyBlock) {
    const std::int64_t width = std::min(kKeyBlock, ranges.hull.end - key);
    const Matrix k = rows_f32(head_of(forward.k, b, h / g.group), key, width, g.size, work.k);
    const Matrix v = rows_f32(head_of(forward.v, b, h / g.group), key, width, g.size, work.v);
    const Matrix weights = {work.scores, DType::F32, width, 1};
    const Matrix slopes = {work.slopes, DType::F32, width, 1};
    gemm(count, width, g.size, q, k.transposed(), weights, forward.scale);
    gemm(count, width, g.size, dout, v.transposed(), slopes);
    for (std::int64_t i = 0; i < count; ++i) {
      attention_detail::score_gradient_row(work.scores + i * width, work.slopes + i * width, width,
                                           ranges.within(i, key, width), lses[i],
                                           whole ? nullptr : deltas + i, static_cast<float>(forward.scale));
    }
    gemm(count, g.size, width, slopes, k, dq, 1, 1);
    gemm(width, g.size, count, slopes.transposed(), q, {work.dk + key * g.size, DType::F32, g.size, 1}, 1, 1);
    gemm(width, g.size, count, weights.transposed(), dout, {work.dv + key * g.size, DType::F32, g.size, 1}, 1,
         1);
  }
  gemm_detail::finish(work.dq, g.size, count, g.size, head_of(args.dq, b, h).at(first, 0), 1, 0, {});
}

std::string attention_grad_supports(const AttentionGradArgs& args) {
  if (!unit_last(args.dout) || !unit_last(args.dq) || !unit_last(args.dk) || !unit_last(args.dv))
    return "needs unit last strides";
  return attention_supports(args.forward);
}

/// One key head per task: all its query heads add into dk and dv in a fixed order.
void attention_grad(const AttentionGradArgs& args, Stream&) {
  const Geometry g(args.forward);
  parallel_for(g.batch * g.key_heads, 1, [&](std::int64_t begin, std::int64_t end) {
    BackwardWork work(g);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = i / g.key_heads;
      const std::int64_t key_head = i % g.key_heads;
      std::fill_n(work.dk, 2 * g.keys * g.size, 0.0F);
      for (std::int64_t h = key_head * g.group; h < (key_head + 1) * g.group; ++h) {
        for (std::int64_t first = 0; first < g.queries; first += kQueryBlock)
          backward_block(args, g, work, b, h, first);
      }
      gemm_detail::finish(work.dk, g.size, g.keys, g.size, head_of(args.dk, b, key_head), 1, 0, {});
      gemm_detail::finish(work.dv, g.size, g.keys, g.size, head_of(args.dv, b, key_head), 1, 0, {});
    }
  });
}

}  // namespace

void fill_attention(KernelTable& table) {
  table.attention.add("flash", attention_supports, attention);
  table.attention_grad.add("flash", attention_grad_supports, attention_grad);
}

}  // namespace candela
