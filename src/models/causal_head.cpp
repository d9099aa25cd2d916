#include <candela/core/error.h>
#include <candela/models/causal_head.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>

namespace candela {

Tensor CausalHead::logits(const Tensor& hidden, Generator* dropout) const {
  Tensor result = apply_linear(hidden, *layer_, dropout);
  if (options_.multiplier != 1) result = affine(result, options_.multiplier, 0);
  if (options_.cap != 0) result = affine(tanh(affine(result, 1 / options_.cap, 0)), options_.cap, 0);
  return result;
}

Tensor CausalHead::loss(const Tensor& hidden, const Tensor& targets, Generator* dropout) const {
  const std::int64_t width = layer_->inputs();
  require(hidden.defined() && hidden.rank() >= 1 && hidden.size(-1) == width,
          "loss: hidden must be [..., {}] to match {}; got {}", width, layer_->path, hidden);
  require(targets.defined(), "loss: targets must be a tensor; got an undefined one");
  Tensor rows = reshape(hidden, {-1, width});
  const Tensor flat = reshape(targets, {targets.numel()});
  if (options_.cap != 0) return sum(cross_entropy(logits(rows, dropout), flat), {0}, true);
  if (options_.multiplier != 1) rows = affine(rows, options_.multiplier, 0);
  if (!layer_->adapted()) return linear_cross_entropy(rows, layer_->weight, flat);
  const LoraAdapter& adapter = layer_->adapter;
  const Tensor seen =
      dropout != nullptr && adapter.dropout > 0 ? candela::dropout(rows, adapter.dropout, *dropout) : rows;
  const Tensor low = affine(linear(cast(seen, adapter.a.dtype()), adapter.a), adapter.scale, 0);
  return linear_cross_entropy(rows, layer_->weight, flat, kIgnoreIndex, {low, adapter.b});
}

}  // namespace candela
