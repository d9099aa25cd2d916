#include "models/parts.h"

#include <candela/autograd/checkpoint.h>
#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/norm.h>

namespace candela {

Norm::Norm(Parameters& parameters, const std::string& path, std::int64_t width, NormKind kind, double eps)
    : kind_(kind),
      eps_(eps),
      weight_(parameters.tensor(path + ".weight", {width},
                                kind == NormKind::RmsPlusOne ? Init::Zeros : Init::Ones)) {
  if (kind_ == NormKind::Layer) bias_ = &parameters.tensor(path + ".bias", {width}, Init::Zeros);
}

Tensor Norm::apply(const Tensor& x) const {
  switch (kind_) {
    case NormKind::Rms:
      return rms_norm(x, weight_, eps_);
    case NormKind::RmsPlusOne:
      return rms_norm(x, weight_, eps_, 1);
    case NormKind::Layer:
    case NormKind::LayerNoBias:
      return layer_norm(x, weight_, bias_ == nullptr ? Tensor() : *bias_, eps_);
  }
  throw InvalidArgument("norm: unknown kind");
}

std::pair<Tensor, Tensor> Norm::add(const Tensor& update, const Tensor& stream) const {
  if (kind_ == NormKind::Rms || kind_ == NormKind::RmsPlusOne)
    return add_rms_norm(update, stream, weight_, eps_, kind_ == NormKind::RmsPlusOne ? 1 : 0);
  Tensor sum = candela::add(update, stream);
  Tensor normed = apply(sum);
  return {std::move(sum), std::move(normed)};
}

Tensor ResidualStream::normed(const std::optional<Norm>& norm) {
  if (!norm) {
    x_ = value();
    update_ = Tensor();
    return x_;
  }
  if (!update_.defined()) return norm->apply(x_);
  auto [sum, result] = norm->add(update_, x_);
  x_ = std::move(sum);
  update_ = Tensor();
  return result;
}

void ResidualStream::checkpoint(
    const Tensor& normed, Generator* dropout,
    const std::function<void(ResidualStream& stream, const Tensor& normed)>& block) {
  const std::vector<Tensor> inputs = {x_, normed};
  const std::vector<Tensor> results = candela::checkpoint(
      "block",
      [block](std::span<const Tensor> in) -> std::vector<Tensor> {
        ResidualStream inner(in[0]);
        block(inner, in[1]);
        return {inner.x_, inner.update_};
      },
      inputs, dropout);
  x_ = results[0];
  update_ = results[1];
}

Tensor ResidualStream::value() const {
  return update_.defined() ? candela::add(update_, x_) : x_;
}

Projections::Projections(Parameters& parameters, const std::string& path, const std::vector<Part>& parts,
                         std::int64_t inputs, bool bias, const std::string& packed) {
  std::int64_t total = 0;
  std::vector<std::pair<std::string, std::int64_t>> layers;
  for (const Part& part : parts) {
    layers.emplace_back(path + "." + part.name, part.outputs);
    sizes_.push_back(part.outputs);
    total += part.outputs;
  }
  if (packed.empty()) {
    group_ = &parameters.group(layers, inputs, bias);
  } else {
    packed_ = &parameters.linear(path + "." + packed, total, inputs, bias);
  }
}

std::vector<Tensor> Projections::forward(const Tensor& x, Generator* dropout) const {
  return group_ != nullptr ? group_->forward(x, dropout)
                           : split(apply_linear(x, *packed_, dropout), -1, sizes_);
}

Activation activation_of(const ModelConfig& config) {
  const std::string& name = config.hidden_act;
  if (name == "silu") return Activation::Silu;
  if (name == "gelu") return Activation::Gelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::GeluTanh;
  if (name == "relu") return Activation::Relu;
  throw Unsupported(fmt::format("{}: hidden_act must be silu, gelu, gelu_pytorch_tanh or relu; got {}",
                                config.model_type, name));
}

Tensor activate(Activation activation, const Tensor& x) {
  switch (activation) {
    case Activation::Silu:
      return silu(x);
    case Activation::Gelu:
      return gelu(x);
    case Activation::GeluTanh:
      return gelu_tanh(x);
    case Activation::Relu:
      return relu(x);
  }
  throw InvalidArgument("activate: unknown activation");
}

Tensor activate_gated(Activation activation, const Tensor& gate, const Tensor& up) {
  switch (activation) {
    case Activation::Silu:
      return swiglu(gate, up);
    case Activation::Gelu:
      return geglu(gate, up, GeluKind::Exact);
    case Activation::GeluTanh:
      return geglu(gate, up, GeluKind::Tanh);
    case Activation::Relu:
      return mul(relu(gate), up);
  }
  throw InvalidArgument("activate_gated: unknown activation");
}

Tensor split_heads(const Tensor& x, std::int64_t head_dim) {
  return reshape(x, {x.size(0), x.size(1), x.size(2) / head_dim, head_dim});
}

Tensor join_heads(const Tensor& x) {
  return reshape(x, {x.size(0), x.size(1), x.size(2) * x.size(3)});
}

}  // namespace candela
