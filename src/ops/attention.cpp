#include <cmath>
#include <limits>

#include <candela/core/grad.h>
#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

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
  require(options.window >= 0, "attention: window must not be negative; got {}", options.window);
  if (options.q_start.defined()) {
    require(options.q_start.dtype() == DType::I32 && options.q_start.shape() == Shape{q.size(0)},
            "attention: q_start must be i32 [{}]; got {}", q.size(0), describe(options.q_start));
  }
  if (options.cu_seqlens.defined()) {
    require(options.cu_seqlens.dtype() == DType::I32 && options.cu_seqlens.rank() == 1 &&
                options.cu_seqlens.size(0) >= 2,
            "attention: cu_seqlens must be i32 [N + 1]; got {}", describe(options.cu_seqlens));
    require(q.size(0) == 1 && q.size(1) == k.size(1) && !options.q_start.defined(),
            "attention: packed sequences need B = 1, T = S and no q_start; got q {} and k {}", q.shape(),
            k.shape());
  }
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
  Tensor lse = grad ? Tensor::empty({q.size(0), q.size(2), q.size(1)}, DType::F32, device) : Tensor();
  const Tensor q1 = unit_last_stride(q);
  const Tensor k1 = unit_last_stride(k);
  const Tensor v1 = unit_last_stride(v);
  const double scale = scale_of(options, q.size(3));
  const AttentionArgs args{
      q1, k1, v1, out, lse, options.q_start, options.cu_seqlens, scale, options.causal, options.window};
  std::string reasons;
  if (out.numel() > 0 && !try_run(&KernelTable::attention, device, args, &reasons)) {
    log_composed_once("attention", device, reasons);
    return composed::attention(q, k, v, options);
  }
  if (grad) {
    record("attention", {q, k, v}, {&out},
           [q1, k1, v1, y = out.detach(), lse, options,
            scale](std::span<const Tensor> grads) -> std::vector<Tensor> {
             const auto empty_like = [](const Tensor& x) {
               return Tensor::empty(x.shape(), x.dtype(), x.device());
             };
             Tensor dq = empty_like(q1);
             Tensor dk = empty_like(k1);
             Tensor dv = empty_like(v1);
             if (y.numel() > 0) {
               run(&KernelTable::attention_grad, y.device(),
                   AttentionGradArgs{{q1, k1, v1, y, lse, options.q_start, options.cu_seqlens, scale,
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
           });
  }
  return out;
}

namespace composed {
namespace {

/// 1 where query t of row b sees key s, else 0: f64 [B, 1, T, S].
Tensor visible(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  const std::int64_t batch = q.size(0);
  const std::int64_t queries = q.size(1);
  const std::int64_t keys = k.size(1);
  std::vector<std::int32_t> starts(static_cast<std::size_t>(batch),
                                   static_cast<std::int32_t>(keys - queries));
  if (options.q_start.defined()) starts = options.q_start.to_vector<std::int32_t>();
  std::vector<std::int32_t> bounds;
  if (options.cu_seqlens.defined()) bounds = options.cu_seqlens.to_vector<std::int32_t>();
  const auto sequence_of = [&](std::int64_t t) {
    std::size_t n = 0;
    while (n < bounds.size() && bounds[n] <= t) ++n;
    return n;
  };
  std::vector<double> mask(static_cast<std::size_t>(batch * queries * keys));
  std::size_t at = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < queries; ++t) {
      const std::int64_t p = starts[static_cast<std::size_t>(b)] + t;
      for (std::int64_t s = 0; s < keys; ++s) {
        const bool sees = (!options.causal || s <= p) && (options.window == 0 || s > p - options.window) &&
                          (bounds.empty() || sequence_of(t) == sequence_of(s));
        mask[at++] = sees ? 1.0 : 0.0;
      }
    }
  }
  return Tensor::from_values(mask, {batch, 1, queries, keys});
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  const std::int64_t batch = q.size(0);
  const std::int64_t heads = q.size(2);
  const std::int64_t keys = k.size(1);
  const std::int64_t key_heads = k.size(2);
  const std::int64_t size = q.size(3);
  if (keys == 0) return zeros(q.shape(), q.dtype(), q.device());
  // [B, heads, T, D]; each key head serves H / K neighbouring query heads.
  const auto spread = [&](const Tensor& x) {
    const Tensor grouped =
        broadcast_to(unsqueeze(transpose(x, 1, 2), 2), {batch, key_heads, heads / key_heads, keys, size});
    return reshape(grouped, {batch, heads, keys, size});
  };
  const Tensor mask = to_device(cast(visible(q, k, options), q.dtype()), q.device());
  const Tensor blocked = affine(mask, -1, 1);
  Tensor scores = affine(matmul(transpose(q, 1, 2), transpose(spread(k), 2, 3)), scale_of(options, size), 0);
  // Blocked scores are taken out before the maximum, and their weights are set to zero after the exponential.
  const double lowest = q.dtype() == DType::F16 ? -60000.0 : -1e30;
  scores = add(mul(scores, mask), affine(blocked, lowest, 0));
  const Tensor weights = mul(exp(sub(scores, max(scores.detach(), {3}, true))), mask);
  const Tensor total = sum(weights, {3}, true);
  const Tensor none = equal(total, affine(total, 0, 0));
  return contiguous(transpose(matmul(div(weights, add(total, none)), spread(v)), 1, 2));
}

}  // namespace composed
}  // namespace candela
