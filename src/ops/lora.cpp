#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>

#include "backend/selector.h"
#include "ops/adjacent.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

void check_base(const Tensor& x, const Weight& weight, const Tensor& bias, const Tensor& lora_x) {
  check_floating("lora_linear", "x", x);
  check_defined("lora_linear", "weight", weight.dense());
  check_same_device("lora_linear", {x, lora_x, weight.dense(), bias});
  require(x.dtype() == weight.dtype(), "lora_linear: dtypes must match; got {} and {}; cast() one of them",
          to_string(x.dtype()), to_string(weight.dtype()));
  const std::int64_t width = x.size(-1);
  require(weight.dense().rank() == 2 && weight.inputs() == width,
          "lora_linear: weight must be [O, {}] to match x {}; got {}", width, x.shape(),
          weight.dense().shape());
  if (bias.defined()) {
    check_same_dtype("lora_linear", x, bias);
    require(bias.shape() == Shape{weight.outputs()},
            "lora_linear: bias must be [{}] to match weight {}; got {}", weight.outputs(),
            weight.dense().shape(), bias.shape());
  }
  if (lora_x.defined()) {
    check_same_dtype("lora_linear", x, lora_x);
    require(lora_x.shape() == x.shape(), "lora_linear: lora_x must be {} as x; got {}", x.shape(),
            lora_x.shape());
  }
}

void check_adapters(const Tensor& x, const Weight& weight, std::span<const LowRank> adapters) {
  require(adapters.size() <= kMaxLoraBranches, "lora_linear: takes at most {} adapters; got {}",
          kMaxLoraBranches, adapters.size());
  const std::int64_t width = x.size(-1);
  std::int64_t free = 0;  // the first output behind the adapters so far
  for (const LowRank& adapter : adapters) {
    check_floating("lora_linear", "a", adapter.a);
    check_floating("lora_linear", "b", adapter.b);
    check_same_device("lora_linear", {x, adapter.a, adapter.b});
    check_same_dtype("lora_linear", adapter.a, adapter.b);
    require(adapter.a.dtype() == adapters[0].a.dtype(),
            "lora_linear: the adapters of one group must share a dtype; got {} and {}",
            to_string(adapters[0].a.dtype()), to_string(adapter.a.dtype()));
    require(adapter.a.rank() == 2 && adapter.a.size(1) == width,
            "lora_linear: a must be [r, {}] to match x {}; got {}", width, x.shape(), adapter.a.shape());
    require(adapter.b.rank() == 2 && adapter.b.size(1) == adapter.a.size(0),
            "lora_linear: b must be [O, {}] to match a {}; got {}", adapter.a.size(0), adapter.a.shape(),
            adapter.b.shape());
    require(adapter.first_output >= free && adapter.first_output <= weight.outputs() - adapter.b.size(0),
            "lora_linear: the outputs of b {} must lie in [{}, {}), behind those of the adapter before; "
            "first_output is {}",
            adapter.b.shape(), free, weight.outputs(), adapter.first_output);
    free = adapter.first_output + adapter.b.size(0);
  }
}

/// What one call needs, forward and backward: two-dimensional views and the concatenated A.
struct LoraCall {
  Tensor x, lora_x, weight, bias, a, xa;
  std::vector<LowRank> adapters;  // detached
  std::vector<std::int64_t> first_rows;
  Shape x_shape;
  bool separate = false;  // the adapters see lora_x, not x
  // Of a recorded call, instead of x and lora_x: the adapters' input. The gradient reads no other.
  SavedTensor seen;
  Shape flat_shape;  // x's, [N, I]

  void keep_for_gradient(const Tensor& input) {
    seen = a.defined() ? SavedTensor(input) : SavedTensor();
    flat_shape = x.shape();
    x = Tensor();
    lora_x = Tensor();
    bias = Tensor();
  }
  /// The inverse of keep_for_gradient. Where the adapters' input is not x, it stands for x, whose shape alone
  /// the gradient reads.
  void restore_inputs() {
    lora_x = seen.defined() ? reshape(seen.get(), flat_shape)
                            : Tensor::empty(flat_shape, weight.dtype(), weight.device());
    x = lora_x;
  }

  LoraLinearArgs args(const Tensor& y) const {
    LoraLinearArgs result{x, lora_x, weight, bias, y, a, xa, {}, static_cast<int>(adapters.size()), separate};
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      const LowRank& adapter = adapters[i];
      result.branches[i] = {adapter.b,     adapter.first_output, adapter.b.size(0),
                            first_rows[i], adapter.b.size(1),    adapter.scale};
    }
    return result;
  }
};

LoraCall prepare(const Tensor& x, const Weight& weight, const Tensor& bias, std::span<const LowRank> adapters,
                 const Tensor& lora_x) {
  LoraCall call;
  call.x_shape = x.shape();
  call.x = reshape(x.detach(), {row_count(x), x.size(-1)});
  call.separate = lora_x.defined();
  call.lora_x = call.separate ? reshape(lora_x.detach(), call.x.shape()) : call.x;
  call.weight = weight.dense().detach();
  if (bias.defined()) call.bias = bias.detach();
  std::vector<Tensor> as;
  std::int64_t rows = 0;
  for (const LowRank& adapter : adapters) {
    call.adapters.push_back({{}, adapter.b.detach(), adapter.scale, adapter.first_output});
    call.first_rows.push_back(rows);
    rows += adapter.a.size(0);
    as.push_back(adapter.a.detach());
  }
  if (as.empty()) return call;
  call.a = contiguous(joined(as, 0));
  call.xa = Tensor::empty({call.x.size(0), rows}, call.a.dtype(), x.device());
  return call;
}

/// Gradients in the order x, lora_x, then a and b of every adapter.
std::vector<Tensor> lora_gradients(LoraCall call, const Tensor& grad, bool need_x, bool need_lora_x) {
  call.restore_inputs();
  const auto empty_like = [](const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); };
  LoraLinearGradArgs args{};
  args.forward = call.args({});
  const Tensor dy = contiguous(reshape(grad, {call.x.size(0), call.weight.size(0)}));
  args.dy = dy;
  std::vector<Tensor> dbs;
  for (std::size_t i = 0; i < call.adapters.size(); ++i) {
    dbs.push_back(empty_like(call.adapters[i].b));
    args.db[i] = dbs.back();
  }
  const Tensor dxa = call.xa.defined() ? empty_like(call.xa) : Tensor();
  const Tensor da = call.a.defined() ? empty_like(call.a) : Tensor();
  const Tensor dx = need_x ? empty_like(call.x) : Tensor();
  // Without an adapter nothing sees lora_x.
  const Tensor dlora_x =
      call.separate && need_lora_x && call.a.defined() ? empty_like(call.lora_x) : Tensor();
  args.dxa = dxa;
  args.da = da;
  args.dx = dx;
  args.dlora_x = dlora_x;
  if (call.x.size(0) > 0) {
    run(&KernelTable::lora_linear_grad, call.x.device(), args);
  } else {
    std::vector<Tensor> sums = dbs;
    sums.insert(sums.end(), {da, dx, dlora_x});
    for (const Tensor& sum : sums) {
      if (sum.defined()) fill_(sum, 0);
    }
  }
  std::vector<Tensor> result = {need_x ? reshape(dx, call.x_shape) : Tensor(),
                                dlora_x.defined() ? reshape(dlora_x, call.x_shape) : Tensor()};
  for (std::size_t i = 0; i < call.adapters.size(); ++i) {
    const std::int64_t first = call.first_rows[i];
    result.push_back(slice(da, 0, first, first + call.adapters[i].b.size(1)));
    result.push_back(dbs[i]);
  }
  return result;
}

/// Records the gradient of `result`. Where the adapters see x itself, their share goes into dx.
void record_lora(const Tensor& x, const Tensor& lora_x, std::span<const LowRank> adapters, LoraCall call,
                 Tensor& result) {
  std::vector<Tensor> inputs = {x, lora_x};
  call.keep_for_gradient(lora_x.defined() ? lora_x : x);
  std::vector<Tensor> saved = {call.a, call.xa};
  call.seen.append_reads(saved);
  if (x.requires_grad()) saved.push_back(call.weight);
  for (std::size_t i = 0; i < adapters.size(); ++i) {
    inputs.insert(inputs.end(), {adapters[i].a, adapters[i].b});
    saved.push_back(call.adapters[i].b);
  }
  record(
      "lora_linear", inputs, {&result},
      [call = std::move(call), need_x = x.requires_grad(), need_lora_x = lora_x.requires_grad()](
          std::span<const Tensor> grads) { return lora_gradients(call, grads[0], need_x, need_lora_x); },
      saved);
}

bool any_needs_grad(const Tensor& x, const Tensor& lora_x, std::span<const LowRank> adapters) {
  std::vector<Tensor> inputs = {x, lora_x};
  for (const LowRank& adapter : adapters) inputs.insert(inputs.end(), {adapter.a, adapter.b});
  return needs_grad(inputs);
}

}  // namespace

Tensor lora_linear(const Tensor& x, const Weight& weight, const Tensor& bias,
                   std::span<const LowRank> adapters, const Tensor& lora_x) {
  check_base(x, weight, bias, lora_x);
  check_adapters(x, weight, adapters);
  // Kernels know no gradient of the weight, and no layer without inputs or outputs.
  if (needs_grad({weight.dense(), bias}) || weight.dense().numel() == 0)
    return composed::lora_linear(x, weight, bias, adapters, lora_x);
  LoraCall call = prepare(x, weight, bias, adapters, lora_x);
  const Tensor y = Tensor::empty({call.x.size(0), weight.outputs()}, x.dtype(), x.device());
  std::string reasons;
  if (call.x.size(0) > 0 && !try_run(&KernelTable::lora_linear, x.device(), call.args(y), &reasons)) {
    log_composed_once("lora_linear", x.device(), reasons);
    return composed::lora_linear(x, weight, bias, adapters, lora_x);
  }
  Shape shape = x.shape();
  shape[shape.rank() - 1] = weight.outputs();
  Tensor result = y.with_layout(Layout::contiguous(shape));
  if (any_needs_grad(x, lora_x, adapters)) record_lora(x, lora_x, adapters, std::move(call), result);
  return result;
}

namespace composed {

Tensor lora_linear(const Tensor& x, const Weight& weight, const Tensor& bias,
                   std::span<const LowRank> adapters, const Tensor& lora_x) {
  const Tensor y = linear(x, weight.dense(), bias);
  const int last = y.rank() - 1;
  std::vector<Tensor> pieces;
  std::int64_t done = 0;
  for (const LowRank& adapter : adapters) {
    const std::int64_t first = adapter.first_output;
    const std::int64_t end = first + adapter.b.size(0);
    const Tensor input = cast(lora_x.defined() ? lora_x : x, adapter.a.dtype());
    const Tensor delta = affine(linear(linear(input, adapter.a), adapter.b), adapter.scale, 0);
    if (first > done) pieces.push_back(slice(y, last, done, first));
    pieces.push_back(add(slice(y, last, first, end), cast(delta, y.dtype())));
    done = end;
  }
  if (pieces.empty()) return y;
  if (done < weight.outputs()) pieces.push_back(slice(y, last, done, weight.outputs()));
  return concat(pieces, last);
}

}  // namespace composed
}  // namespace candela
