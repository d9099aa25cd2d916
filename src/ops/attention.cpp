#include <algorithm>
#include <cmath>

#include <candela/core/grad.h>
#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

/// The values of cu_seqlens, where the host can read them; kernels elsewhere have to stay within T
/// themselves.
void check_bounds(const Tensor& cu_seqlens, std::int64_t tokens) {
  const Device device = cu_seqlens.device();
  if (device.type == DeviceType::Plan || !device_interface(device).host_accessible()) return;
  const auto bounds = cu_seqlens.to_vector<std::int32_t>();
  require(bounds.front() == 0, "attention: cu_seqlens must start at 0; got {}", bounds.front());
  for (std::size_t n = 1; n < bounds.size(); ++n) {
    require(bounds[n] >= bounds[n - 1],
            "attention: cu_seqlens must not decrease; got {} after {} at index {}", bounds[n], bounds[n - 1],
            n);
  }
  require(bounds.back() == tokens, "attention: cu_seqlens must end at T = {}; got {}", tokens, bounds.back());
}

void check_positions(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  require(options.window >= 0, "attention: window must be at least 1, or 0 for no limit; got {}",
          options.window);
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
  check_bounds(options.cu_seqlens, q.size(1));
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

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  check_attention(q, k, v, options);
  const bool grad = needs_grad({q, k, v});
  const Device device = q.device();
  Tensor out = Tensor::empty(q.shape(), q.dtype(), device);
  const auto row_statistic = [&] {
    return grad ? Tensor::empty({q.size(0), q.size(2), q.size(1)}, DType::F32, device) : Tensor();
  };
  const Tensor top = row_statistic();
  const Tensor total = row_statistic();
  const Tensor q1 = unit_last_stride(q);
  const Tensor k1 = unit_last_stride(k);
  const Tensor v1 = unit_last_stride(v);
  const double scale = scale_of(options, q.size(3));
  const AttentionArgs args{q1,
                           k1,
                           v1,
                           out,
                           top,
                           total,
                           options.q_start,
                           options.cu_seqlens,
                           scale,
                           options.causal,
                           options.window};
  std::string reasons;
  if (out.numel() > 0 && !try_run(&KernelTable::attention, device, args, &reasons)) {
    log_composed_once("attention", device, reasons);
    return composed::attention(q, k, v, options);
  }
  if (grad) {
    record("attention", {q, k, v}, {&out},
           [q1, k1, v1, y = out.detach(), top, total, options,
            scale](std::span<const Tensor> grads) -> std::vector<Tensor> {
             const auto empty_like = [](const Tensor& x) {
               return Tensor::empty(x.shape(), x.dtype(), x.device());
             };
             Tensor dq = empty_like(q1);
             Tensor dk = empty_like(k1);
             Tensor dv = empty_like(v1);
             if (y.numel() > 0) {
               run(&KernelTable::attention_grad, y.device(),
                   AttentionGradArgs{{q1, k1, v1, y, top, total, options.q_start, options.cu_seqlens, scale,
                                      options.causal, options.window},
                                     unit_last_stride(grads[0]),
                                     dq,
                                     dk,
                                     dv});
             } else {
               fill_(dk, 0);
               fill_(dv, 0);
             }
             return {dq, dk, dv};
           },
           {q1, k1, v1, out.detach(), top, total, options.q_start, options.cu_seqlens});
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
             sequence_of(t) == sequence_of(s);
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
Tensor attend_all(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  const std::int64_t batch = q.size(0);
  const std::int64_t heads = q.size(2);
  const std::int64_t key_heads = k.size(2);
  // [B, K, H / K * T, D]: each key head serves H / K neighbouring query heads.
  const Tensor rows =
      reshape(transpose(q, 1, 2), {batch, key_heads, heads / key_heads * q.size(1), q.size(3)});
  const Tensor scores = affine(matmul(rows, transpose(transpose(k, 1, 2), 2, 3)), scale, 0);
  const Tensor out = matmul(composed::softmax(scores, 3), transpose(v, 1, 2));
  return transpose(reshape(out, {batch, heads, q.size(1), q.size(3)}), 1, 2);
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
                                 part(v, run.first_key, run.last_key), scale_of(options, q.size(3))));
    }
    rows.push_back(concat(parts, 1));
  }
  return contiguous(concat(rows, 0));
}

}  // namespace composed
}  // namespace candela
