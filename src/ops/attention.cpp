#include <algorithm>
#include <cmath>

#include <candela/core/grad.h>
#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>

#include "backend/selector.h"
#include "ops/adjacent.h"
#include "ops/checks.h"
#include "ops/composed.h"
#include "ops/rotate.h"

namespace candela {
namespace {

void check_distance_bias(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  const Tensor& bias = options.distance_bias;
  if (!bias.defined()) return;
  require(
      bias.dtype() == DType::F32 && bias.rank() == 2 && bias.size(0) == q.size(2) && bias.size(1) % 2 == 1,
      "attention: distance_bias must be f32 [{}, 2 M + 1]; got {}", q.size(2), bias);
  require(q.size(1) == k.size(1) && !options.q_start.defined(),
          "attention: distance_bias needs T = S and no q_start; got q {}, k {} and q_start {}", q.shape(),
          k.shape(), options.q_start);
  check_same_device("attention", {q, bias});
  refuse_grad("attention through distance_bias", {bias});
}

void check_positions(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  require(options.window >= 0, "attention: window must be at least 1, or 0 for no limit; got {}",
          options.window);
  require(options.window_after >= 0, "attention: window_after must be at least 1, or 0 for no limit; got {}",
          options.window_after);
  check_distance_bias(q, k, options);
  const auto scale = static_cast<float>(options.scale);
  require(std::isfinite(scale) && (scale != 0 || options.scale == 0),
          "attention: scale must be a finite f32 number, or 0 for 1 / sqrt(D); got {}", options.scale);
  if (options.q_start.defined()) {
    require(options.q_start.dtype() == DType::I32 && options.q_start.shape() == Shape{q.size(0)},
            "attention: q_start must be i32 [{}]; got {}", q.size(0), options.q_start);
  }
  if (!options.cu_seqlens.defined()) return;
  require(options.cu_seqlens.dtype() == DType::I32 && options.cu_seqlens.rank() == 1 &&
              options.cu_seqlens.size(0) >= 2,
          "attention: cu_seqlens must be i32 [N + 1], N at least 1; got {}", options.cu_seqlens);
  require(q.size(0) == 1 && q.size(1) == k.size(1) && !options.q_start.defined(),
          "attention: packed sequences need B = 1, T = S and no q_start; got q {}, k {} and q_start {}",
          q.shape(), k.shape(), options.q_start);
}

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  check_floating("attention", "q", q);
  check_floating("attention", "k", k);
  check_floating("attention", "v", v);
  check_same_device("attention", {q, k, v, options.q_start, options.cu_seqlens});
  check_same_dtype("attention", q, k);
  check_same_dtype("attention", q, v);
  require(q.rank() == 4 && k.rank() == 4,
          "attention: q must be [B, T, H, D] and k [B, S, K, D]; got {} and {}", q.shape(), k.shape());
  require(k.shape() == v.shape(), "attention: k and v must have one shape; got {} and {}", k.shape(),
          v.shape());
  require(q.size(0) == k.size(0) && q.size(3) == k.size(3),
          "attention: q {} and k {} must agree in batch and head size", q.shape(), k.shape());
  require(k.size(2) > 0 && q.size(2) % k.size(2) == 0,
          "attention: {} query heads must be a multiple of {} key heads", q.size(2), k.size(2));
  check_positions(q, k, options);
}

double scale_of(const AttentionOptions& options, std::int64_t head_size) {
  return options.scale != 0 ? options.scale
                            : 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(head_size, 1)));
}

/// Kernels walk heads with unit stride; everything else about the layout is theirs to follow.
Tensor unit_last_stride(const Tensor& x) {
  return x.strides()[3] == 1 || x.size(3) <= 1 ? x.detach() : clone(x.detach());
}

/// One call as its gradient needs it: detached, with the statistics of each row.
struct AttentionCall {
  Tensor q, k, v, out, top, total;
  AttentionOptions options;
  double scale = 1;

  AttentionArgs args() const {
    return {q,
            k,
            v,
            out,
            top,
            total,
            options.q_start,
            options.cu_seqlens,
            scale,
            options.causal,
            options.window,
            options.window_after,
            options.distance_bias};
  }
};

/// Runs a kernel, and keeps the rows' statistics if `grad`. Undefined `out`: none takes the arguments.
AttentionCall run_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                            const AttentionOptions& options, bool grad) {
  const auto row_statistic = [&] {
    return grad ? Tensor::empty({q.size(0), q.size(2), q.size(1)}, DType::F32, q.device()) : Tensor();
  };
  AttentionCall call{unit_last_stride(q),
                     unit_last_stride(k),
                     unit_last_stride(v),
                     Tensor::empty(q.shape(), q.dtype(), q.device()),
                     row_statistic(),
                     row_statistic(),
                     options,
                     scale_of(options, q.size(3))};
  std::string reasons;
  if (call.out.numel() > 0 && !try_run(&KernelTable::attention, q.device(), call.args(), &reasons)) {
    log_composed_once("attention", q.device(), reasons);
    call.out = Tensor();
  }
  return call;
}

/// dq, dk and dv: side by side where q, k and v are.
std::vector<Tensor> attention_gradients(const AttentionCall& call, const Tensor& dout) {
  std::vector<Tensor> grads = empty_beside(std::vector{call.q, call.k, call.v}, 2);
  if (call.out.numel() > 0) {
    run(&KernelTable::attention_grad, call.out.device(),
        AttentionGradArgs{call.args(), unit_last_stride(dout), grads[0], grads[1], grads[2]});
  } else {
    fill_(grads[1], 0);
    fill_(grads[2], 0);
  }
  return grads;
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  check_attention(q, k, v, options);
  const bool grad = needs_grad({q, k, v});
  AttentionCall call = run_attention(q, k, v, options, grad);
  if (!call.out.defined()) return composed::attention(q, k, v, options);
  Tensor out = call.out;
  if (grad) {
    call.out = out.detach();
    const std::vector<Tensor> saved = {call.q,
                                       call.k,
                                       call.v,
                                       call.out,
                                       call.top,
                                       call.total,
                                       options.q_start,
                                       options.cu_seqlens,
                                       options.distance_bias};
    record(
        "attention", {q, k, v}, {&out},
        [call](std::span<const Tensor> grads) { return attention_gradients(call, grads[0]); }, saved);
  }
  return out;
}

Tensor rotary_attention(const Tensor& q, const Tensor& k, const Tensor& v, const RopeTable& table,
                        const Tensor& positions, const AttentionOptions& options) {
  check_attention(q, k, v, options);
  check_rope(q, table, positions);
  check_rope(k, table, positions);
  if (!rotates_in_place(q) || !rotates_in_place(k))
    return attention(rope(q, table, positions), rope(k, table, positions), v, options);
  const bool grad = needs_grad({q, k, v});
  rotate_in_place(q.detach(), table, positions, false);
  rotate_in_place(k.detach(), table, positions, false);
  AttentionCall call = run_attention(q, k, v, options, grad);
  require<Unsupported>(call.out.defined(), "rotary_attention: no implementation on {} takes q {} and k {}",
                       q.device(), q, k);
  Tensor out = call.out;
  if (grad) {
    call.out = out.detach();
    const std::vector<Tensor> saved = {call.q,
                                       call.k,
                                       call.v,
                                       call.out,
                                       call.top,
                                       call.total,
                                       table.cos,
                                       table.sin,
                                       options.q_start,
                                       options.cu_seqlens,
                                       options.distance_bias,
                                       positions};
    record(
        "rotary_attention", {q, k, v}, {&out},
        [call, table, positions](std::span<const Tensor> grads) {
          std::vector<Tensor> result = attention_gradients(call, grads[0]);
          rotate_in_place(result[0], table, positions, true);
          rotate_in_place(result[1], table, positions, true);
          return result;
        },
        saved);
  }
  return out;
}

namespace composed {
namespace {

/// Queries [begin, end) of one row that all see keys [first_key, last_key).
struct Run {
  std::int64_t begin, end, first_key, last_key;
};

/// The queries of row `b` in runs, in order. What a query sees is one interval of the keys.
std::vector<Run> runs_of(const Tensor& q, const Tensor& k, const AttentionOptions& options, std::int64_t b) {
  const std::int64_t keys = k.size(1);
  std::int64_t start = keys - q.size(1);
  if (options.q_start.defined())
    start = options.q_start.to_vector<std::int32_t>()[static_cast<std::size_t>(b)];
  std::vector<std::int32_t> bounds;
  if (options.cu_seqlens.defined()) bounds = options.cu_seqlens.to_vector<std::int32_t>();
  const auto sequence_of = [&](std::int64_t t) {
    return std::upper_bound(bounds.begin(), bounds.end(), t) - bounds.begin();
  };
  std::vector<Run> runs;
  for (std::int64_t t = 0; t < q.size(1); ++t) {
    const std::int64_t p = start + t;
    const auto sees = [&](std::int64_t s) {
      return (!options.causal || s <= p) && (options.window == 0 || s > p - options.window) &&
             (options.window_after == 0 || s < p + options.window_after) && sequence_of(t) == sequence_of(s);
    };
    std::int64_t first = 0;
    while (first < keys && !sees(first)) ++first;
    std::int64_t last = first;
    while (last < keys && sees(last)) ++last;
    if (!runs.empty() && runs.back().first_key == first && runs.back().last_key == last) {
      runs.back().end = t + 1;
    } else {
      runs.push_back({t, t + 1, first, last});
    }
  }
  return runs;
}

/// Queries [B, T, H, D] of which each sees all of the keys [B, S, K, D]. Without keys (S = 0) the sum over
/// them is zero.
/// `bias` [1, K, H / K * T, S], if defined, is added to the scores.
Tensor attend_all(const Tensor& q, const Tensor& k, const Tensor& v, double scale, const Tensor& bias = {}) {
  const std::int64_t batch = q.size(0);
  const std::int64_t heads = q.size(2);
  const std::int64_t key_heads = k.size(2);
  // [B, K, H / K * T, D]: each key head serves H / K neighbouring query heads.
  const Tensor rows =
      reshape(transpose(q, 1, 2), {batch, key_heads, heads / key_heads * q.size(1), q.size(3)});
  Tensor scores = affine(matmul(rows, transpose(transpose(k, 1, 2), 2, 3)), scale, 0);
  if (bias.defined()) scores = add(scores, cast(bias, scores.dtype()));
  const Tensor out = matmul(composed::softmax(scores, 3), transpose(v, 1, 2));
  return transpose(reshape(out, {batch, heads, q.size(1), q.size(3)}), 1, 2);
}

/// The biases of a run, as attend_all takes them; undefined without any.
Tensor run_bias(const Tensor& q, const Tensor& k, const AttentionOptions& options, const Run& run) {
  if (!options.distance_bias.defined()) return {};
  const std::vector<float> table = options.distance_bias.to_vector<float>();
  const std::int64_t width = options.distance_bias.size(1);
  const std::int64_t reach = width / 2;
  std::vector<float> values;
  for (std::int64_t h = 0; h < q.size(2); ++h) {
    for (std::int64_t t = run.begin; t < run.end; ++t) {
      for (std::int64_t j = run.first_key; j < run.last_key; ++j)
        values.push_back(
            table[static_cast<std::size_t>(h * width + std::clamp(j - t, -reach, reach) + reach)]);
    }
  }
  const std::int64_t group = q.size(2) / k.size(2);
  return Tensor::from_values(
      values, {1, k.size(2), group * (run.end - run.begin), run.last_key - run.first_key}, q.device());
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  if (q.numel() == 0) return contiguous(attend_all(q, k, v, scale_of(options, q.size(3))));
  // Keys that a query does not see are cut off rather than masked: no product with zero lets their NaN or
  // infinity through.
  const std::int64_t step = options.q_start.defined() ? 1 : q.size(0);
  std::vector<Tensor> rows;
  for (std::int64_t b = 0; b < q.size(0); b += step) {
    const auto part = [&](const Tensor& x, std::int64_t begin, std::int64_t end) {
      return slice(slice(x, 0, b, b + step), 1, begin, end);
    };
    std::vector<Tensor> parts;
    for (const Run& run : runs_of(q, k, options, b)) {
      parts.push_back(attend_all(part(q, run.begin, run.end), part(k, run.first_key, run.last_key),
                                 part(v, run.first_key, run.last_key), scale_of(options, q.size(3)),
                                 run_bias(q, k, options, run)));
    }
    rows.push_back(concat(parts, 1));
  }
  return contiguous(concat(rows, 0));
}

}  // namespace composed
}  // namespace candela
