#include <algorithm>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

void check_lora(const Tensor& x, std::span<const LoraLinear> layers, const Tensor& lora_x) {
  check_floating("lora_linear", "x", x);
  require(!layers.empty() && layers.size() <= kMaxLoraBranches, "lora_linear: takes 1 to {} layers; got {}",
          kMaxLoraBranches, layers.size());
  const std::int64_t width = x.size(-1);
  if (lora_x.defined()) {
    check_same_dtype("lora_linear", x, lora_x);
    require(lora_x.shape() == x.shape(), "lora_linear: lora_x must be {} as x; got {}", x.shape(),
            lora_x.shape());
  }
  const auto adapted =
      std::find_if(layers.begin(), layers.end(), [](const LoraLinear& layer) { return layer.a.defined(); });
  for (const LoraLinear& layer : layers) {
    check_floating("lora_linear", "weight", layer.weight);
    check_same_device("lora_linear", {x, lora_x, layer.weight, layer.bias, layer.a, layer.b});
    check_same_dtype("lora_linear", x, layer.weight);
    require(layer.weight.rank() == 2 && layer.weight.size(1) == width,
            "lora_linear: weight must be [O, {}] to match x {}; got {}", width, x.shape(),
            layer.weight.shape());
    const std::int64_t outputs = layer.weight.size(0);
    if (layer.bias.defined()) {
      check_same_dtype("lora_linear", x, layer.bias);
      require(layer.bias.shape() == Shape{outputs},
              "lora_linear: bias must be [{}] to match weight {}; got {}", outputs, layer.weight.shape(),
              layer.bias.shape());
    }
    require(layer.a.defined() == layer.b.defined(), "lora_linear: a and b come together or not at all");
    if (!layer.a.defined()) continue;
    check_same_dtype("lora_linear", layer.a, layer.b);
    require(layer.a.dtype() == adapted->a.dtype(),
            "lora_linear: the adapters of one group must share a dtype; got {} and {}",
            to_string(adapted->a.dtype()), to_string(layer.a.dtype()));
    require(layer.a.rank() == 2 && layer.a.size(1) == width,
            "lora_linear: a must be [r, {}] to match x {}; got {}", width, x.shape(), layer.a.shape());
    require(layer.b.shape() == (Shape{outputs, layer.a.size(0)}),
            "lora_linear: b must be [{}, {}] to match weight {} and a {}; got {}", outputs, layer.a.size(0),
            layer.weight.shape(), layer.a.shape(), layer.b.shape());
  }
}

/// What one call needs, forward and backward: two-dimensional views and the concatenated A.
struct LoraCall {
  Tensor x, lora_x, a, xa;
  std::vector<LoraLinear> layers;  // detached
  std::vector<std::int64_t> first_rows;
  std::vector<Tensor> outputs;  // [N, O]
  Shape x_shape;
  bool separate = false;  // the adapters see lora_x, not x
  // Of a recorded call, instead of x and lora_x: the adapters' input. The gradient reads no other.
  SavedTensor seen;
  Shape flat_shape;  // x's, [N, I]
  DType dtype = DType::F32;

  void keep_for_gradient(const Tensor& input) {
    seen = a.defined() ? SavedTensor(input) : SavedTensor();
    flat_shape = x.shape();
    dtype = x.dtype();
    x = Tensor();
    lora_x = Tensor();
    outputs.clear();
  }
  /// The inverse of keep_for_gradient. Where the adapters' input is not x, it stands for x, whose shape alone
  /// the gradient reads.
  void restore_inputs(Device device) {
    lora_x = seen.defined() ? reshape(seen.get(), flat_shape) : Tensor::empty(flat_shape, dtype, device);
    x = lora_x;
  }

  LoraLinearArgs args() const {
    LoraLinearArgs result{x, lora_x, a, xa, {}, static_cast<int>(layers.size()), separate};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const Tensor y = i < outputs.size() ? outputs[i] : Tensor();
      result.branches[i] = {layers[i].weight, layers[i].bias, layers[i].b, y, first_rows[i], layers[i].scale};
    }
    return result;
  }
};

LoraCall prepare(const Tensor& x, std::span<const LoraLinear> layers, const Tensor& lora_x) {
  LoraCall call;
  call.x_shape = x.shape();
  call.x = reshape(x.detach(), {row_count(x), x.size(-1)});
  call.separate = lora_x.defined();
  call.lora_x = call.separate ? reshape(lora_x.detach(), call.x.shape()) : call.x;
  std::vector<Tensor> as;
  std::int64_t rows = 0;
  for (const LoraLinear& layer : layers) {
    const auto detached = [](const Tensor& t) { return t.defined() ? t.detach() : Tensor(); };
    call.layers.push_back(
        {detached(layer.weight), detached(layer.bias), detached(layer.a), detached(layer.b), layer.scale});
    call.first_rows.push_back(rows);
    if (layer.a.defined()) {
      rows += layer.a.size(0);
      as.push_back(layer.a.detach());
    }
  }
  if (as.size() == 1) call.a = contiguous(as[0]);
  if (as.size() > 1) call.a = concat(as, 0);
  if (!as.empty()) call.xa = Tensor::empty({call.x.size(0), rows}, call.a.dtype(), x.device());
  return call;
}

/// Gradients in the order x, lora_x, then a and b of every layer.
std::vector<Tensor> lora_gradients(LoraCall call, std::span<const Tensor> grads, bool need_x,
                                   bool need_lora_x) {
  const Device device = call.layers.front().weight.device();
  call.restore_inputs(device);
  const auto empty_like = [](const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); };
  LoraLinearGradArgs args{};
  args.forward = call.args();
  std::vector<Tensor> dys;
  std::vector<Tensor> dbs;
  for (std::size_t i = 0; i < call.layers.size(); ++i) {
    const Shape flat = {call.x.size(0), call.layers[i].weight.size(0)};
    dys.push_back(grads[i].defined() ? contiguous(reshape(grads[i], flat))
                                     : zeros(flat, call.x.dtype(), device));
    dbs.push_back(call.layers[i].b.defined() ? empty_like(call.layers[i].b) : Tensor());
    args.dy[i] = dys.back();
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
    run(&KernelTable::lora_linear_grad, device, args);
  } else {
    dbs.insert(dbs.end(), {da, dx, dlora_x});
    for (const Tensor& grad : dbs) {
      if (grad.defined()) fill_(grad, 0);
    }
  }
  std::vector<Tensor> result = {need_x ? reshape(dx, call.x_shape) : Tensor(),
                                dlora_x.defined() ? reshape(dlora_x, call.x_shape) : Tensor()};
  for (std::size_t i = 0; i < call.layers.size(); ++i) {
    const LoraLinear& layer = call.layers[i];
    if (!layer.a.defined()) {
      result.insert(result.end(), {Tensor(), Tensor()});
      continue;
    }
    result.push_back(slice(da, 0, call.first_rows[i], call.first_rows[i] + layer.a.size(0)));
    result.push_back(dbs[i]);
  }
  return result;
}

}  // namespace

std::vector<Tensor> lora_linear(const Tensor& x, std::span<const LoraLinear> layers, const Tensor& lora_x) {
  check_lora(x, layers, lora_x);
  for (const LoraLinear& layer : layers) {
    // Kernels know no gradient of the weight, and no layer without inputs or outputs.
    if (needs_grad({layer.weight, layer.bias}) || layer.weight.numel() == 0)
      return composed::lora_linear(x, layers, lora_x);
  }
  std::vector<Tensor> inputs = {x, lora_x};
  for (const LoraLinear& layer : layers) inputs.insert(inputs.end(), {layer.a, layer.b});
  const bool grad = needs_grad(inputs);
  LoraCall call = prepare(x, layers, lora_x);
  for (const LoraLinear& layer : call.layers) {
    call.outputs.push_back(Tensor::empty({call.x.size(0), layer.weight.size(0)}, x.dtype(), x.device()));
  }
  std::string reasons;
  if (call.x.size(0) > 0 && !try_run(&KernelTable::lora_linear, x.device(), call.args(), &reasons)) {
    log_composed_once("lora_linear", x.device(), reasons);
    return composed::lora_linear(x, layers, lora_x);
  }
  std::vector<Tensor> results;
  for (const Tensor& output : call.outputs) {
    Shape shape = x.shape();
    shape[shape.rank() - 1] = output.size(1);
    results.push_back(output.with_layout(Layout::contiguous(shape)));
  }
  if (grad) {
    std::vector<Tensor*> outputs;
    for (Tensor& result : results) outputs.push_back(&result);
    call.keep_for_gradient(lora_x.defined() ? lora_x : x);
    std::vector<Tensor> saved = {call.a, call.xa};
    call.seen.append_reads(saved);
    for (const LoraLinear& layer : call.layers) {
      saved.push_back(layer.b);
      if (x.requires_grad()) saved.push_back(layer.weight);
    }
    // Where the adapters see x itself, their share of the gradient goes into dx.
    record(
        "lora_linear", inputs, outputs,
        [call = std::move(call), need_x = x.requires_grad(), need_lora_x = lora_x.requires_grad()](
            std::span<const Tensor> grads) { return lora_gradients(call, grads, need_x, need_lora_x); },
        saved);
  }
  return results;
}

namespace composed {

std::vector<Tensor> lora_linear(const Tensor& x, std::span<const LoraLinear> layers, const Tensor& lora_x) {
  std::vector<Tensor> results;
  for (const LoraLinear& layer : layers) {
    Tensor y = linear(x, layer.weight, layer.bias);
    if (layer.a.defined()) {
      const Tensor input = cast(lora_x.defined() ? lora_x : x, layer.a.dtype());
      const Tensor delta = linear(linear(input, layer.a), layer.b);
      y = add(y, cast(affine(delta, layer.scale, 0), y.dtype()));
    }
    results.push_back(y);
  }
  return results;
}

}  // namespace composed
}  // namespace candela
