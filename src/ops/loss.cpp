#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>
#include <candela/ops/softmax.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

void check_targets(const char* op, const Tensor& x, const Tensor& targets) {
  check_index(op, "targets", targets);
  require(x.rank() == 2 && targets.shape() == Shape{x.size(0)},
          "{}: targets must be [N] to match [N, ...] {}; got {}", op, x.shape(), targets.shape());
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignore_index) {
  check_floating("cross_entropy", "logits", logits);
  const Device device = check_same_device("cross_entropy", {logits, targets});
  check_targets("cross_entropy", logits, targets);
  Tensor loss = Tensor::empty({logits.size(0)}, DType::F32, device);
  Tensor lse = Tensor::empty({logits.size(0)}, DType::F32, device);
  std::string reasons;
  if (logits.size(0) > 0 && !try_run(&KernelTable::cross_entropy, device,
                                     CrossEntropyArgs{logits, targets, loss, lse, ignore_index}, &reasons)) {
    log_composed_once("cross_entropy", device, reasons);
    return composed::cross_entropy(logits, targets, ignore_index);
  }
  if (needs_grad({logits})) {
    record("cross_entropy", {logits}, {&loss},
           [logits = logits.detach(), targets, lse,
            ignore_index](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dlogits = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
             if (logits.numel() > 0) {
               run(&KernelTable::cross_entropy_grad, logits.device(),
                   CrossEntropyGradArgs{logits, targets, lse, grads[0], dlogits, ignore_index});
             }
             return {dlogits};
           },
           {logits, targets});
  }
  return loss;
}

namespace {

void check_linear_cross_entropy(const Tensor& x, const Weight& weight, const Tensor& targets,
                                const LowRankLogits& extra) {
  constexpr const char* kOp = "linear_cross_entropy";
  check_floating(kOp, "x", x);
  check_floating(kOp, "weight", weight.dense());
  check_same_device(kOp, {x, weight.dense(), targets, extra.low, extra.b});
  check_same_dtype(kOp, x, weight.dense());
  check_targets(kOp, x, targets);
  require(weight.dense().rank() == 2 && weight.inputs() == x.size(1),
          "linear_cross_entropy: weight must be [V, {}] to match x {}; got {}", x.size(1), x.shape(),
          weight.dense().shape());
  require(extra.low.defined() == extra.b.defined(),
          "linear_cross_entropy: low and b come together or not at all");
  if (!extra.low.defined()) return;
  check_floating(kOp, "low", extra.low);
  check_floating(kOp, "b", extra.b);
  require(extra.low.rank() == 2 && extra.low.size(0) == x.size(0),
          "linear_cross_entropy: low must be [{}, R] to match x {}; got {}", x.size(0), x.shape(),
          extra.low.shape());
  require(extra.b.shape() == (Shape{weight.outputs(), extra.low.size(1)}),
          "linear_cross_entropy: b must be [{}, {}] to match weight {} and low {}; got {}", weight.outputs(),
          extra.low.size(1), weight.dense().shape(), extra.low.shape(), extra.b.shape());
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Weight& weight, const Tensor& targets,
                            std::int64_t ignore_index, const LowRankLogits& extra) {
  check_linear_cross_entropy(x, weight, targets, extra);
  const Device device = x.device();
  const Tensor& values = weight.dense();
  // dweight adds up over the chunks in f32.
  const auto gradient_of = [&](const Tensor& t, DType dtype) {
    return t.defined() && needs_grad({t}) ? zeros(t.shape(), dtype, device) : Tensor();
  };
  const Tensor dx = gradient_of(x, x.dtype());
  const Tensor dweight = gradient_of(values, DType::F32);
  const Tensor dlow = extra.low.defined() ? gradient_of(extra.low, extra.low.dtype()) : Tensor();
  const Tensor db = extra.b.defined() ? gradient_of(extra.b, DType::F32) : Tensor();
  Tensor loss = zeros({1}, DType::F32, device);
  LinearCrossEntropyArgs args{x, values, targets, loss, dx, dweight, ignore_index};
  args.low = extra.low;
  args.b = extra.b;
  args.dlow = dlow;
  args.db = db;
  std::string reasons;
  if (x.size(0) > 0 && !try_run(&KernelTable::linear_cross_entropy, device, args, &reasons)) {
    log_composed_once("linear_cross_entropy", device, reasons);
    return composed::linear_cross_entropy(x, weight, targets, ignore_index, extra);
  }
  if (args.any_gradient()) {
    record("linear_cross_entropy", {x, values, extra.low, extra.b}, {&loss},
           [dx, dweight, dlow, db, dtype = x.dtype(),
            b_dtype = extra.b.defined() ? extra.b.dtype()
                                        : DType::F32](std::span<const Tensor> grads) -> std::vector<Tensor> {
             // The gradients of the sum are there already: what is left is the chain rule's scalar.
             const auto scaled = [&](const Tensor& grad, DType to) {
               return grad.defined() ? cast(mul(grad, cast(grads[0], grad.dtype())), to) : Tensor();
             };
             return {scaled(dx, dtype), scaled(dweight, dtype),
                     dlow.defined() ? scaled(dlow, dlow.dtype()) : Tensor(), scaled(db, b_dtype)};
           });
  }
  return loss;
}

namespace composed {

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignore_index) {
  // Ignored rows gather class 0 and are multiplied by 0. The keep mask is made on the host: this is the
  // reference, not the fast way.
  const std::vector<std::int64_t> values = cast(targets, DType::I64).to_vector<std::int64_t>();
  std::vector<std::int64_t> index(values.size());
  std::vector<double> keep(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    keep[i] = values[i] == ignore_index ? 0.0 : 1.0;
    index[i] = values[i] == ignore_index ? 0 : values[i];
  }
  const std::int64_t rows = logits.size(0);
  const Device device = logits.device();
  if (logits.size(1) == 0) {
    for (const double kept : keep)
      require(kept == 0, "cross_entropy: no target fits logits {}", logits.shape());
    return sum(cast(logits, logits.dtype() == DType::F64 ? DType::F64 : DType::F32), {1});
  }
  const Tensor at = Tensor::from_values(index, {rows, 1}, device);
  const Tensor mask = to_device(cast(Tensor::from_values(keep, {rows, 1}), logits.dtype()), device);
  const Tensor loss =
      reshape(neg(mul(candela::gather(composed::log_softmax(logits, 1), 1, at), mask)), {rows});
  return logits.dtype() == DType::F64 ? loss : cast(loss, DType::F32);
}

Tensor linear_cross_entropy(const Tensor& x, const Weight& weight, const Tensor& targets,
                            std::int64_t ignore_index, const LowRankLogits& extra) {
  Tensor logits = matmul(x, transpose(weight.dense(), 0, 1));
  if (extra.low.defined()) {
    const DType dtype = extra.low.dtype();
    const Tensor own = matmul(extra.low, transpose(cast(extra.b, dtype), 0, 1));
    logits = add(logits, cast(own, logits.dtype()));
  }
  return sum(composed::cross_entropy(logits, targets, ignore_index), {0}, true);
}

}  // namespace composed
}  // namespace candela
