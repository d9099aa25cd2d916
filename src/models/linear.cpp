#include <algorithm>
#include <map>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/models/linear.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/norm.h>
#include <candela/ops/random.h>

#include "ops/adjacent.h"

namespace candela {
namespace {

LowRank low_rank_of(const LoraAdapter& adapter, std::int64_t first_output) {
  return {adapter.a, adapter.b, adapter.scale, first_output};
}

bool drops(const Linear& layer, const Generator* dropout) {
  return dropout != nullptr && layer.adapted() && layer.adapter.dropout > 0;
}

Tensor apply_one(const Tensor& x, const Linear& layer, Generator* dropout) {
  if (!layer.adapted()) return lora_linear(x, layer.weight, layer.bias, {});
  const LowRank low = low_rank_of(layer.adapter, 0);
  const Tensor seen = drops(layer, dropout) ? candela::dropout(x, layer.adapter.dropout, *dropout) : Tensor();
  return lora_linear(x, layer.weight, layer.bias, std::span(&low, 1), seen);
}

}  // namespace

Prologue Prologue::rms_norm(Tensor x, Tensor weight, double eps) {
  Prologue result(std::move(x));
  result.kind = Kind::RmsNorm;
  result.weight = std::move(weight);
  result.eps = eps;
  return result;
}

Prologue Prologue::swiglu(Tensor gate, Tensor up) {
  Prologue result(std::move(gate));
  result.kind = Kind::Swiglu;
  result.up = std::move(up);
  return result;
}

Tensor Prologue::apply() const {
  switch (kind) {
    case Kind::None:
      return x;
    case Kind::RmsNorm:
      return candela::rms_norm(x, weight, eps);
    case Kind::Swiglu:
      return candela::swiglu(x, up);
  }
  throw InvalidArgument("prologue: unknown kind");
}

LinearGroup::LinearGroup(std::vector<Linear*> layers) : layers_(std::move(layers)) {
  require(!layers_.empty(), "linear_group: needs at least one layer");
  std::vector<Weight> weights;
  std::vector<Tensor> biases;
  for (const Linear* layer : layers_) {
    weights.push_back(layer->weight);
    if (layer->bias.defined()) biases.push_back(layer->bias);
  }
  require(biases.empty() || biases.size() == layers_.size(),
          "linear_group: all layers must have a bias or none; got {} of {}", biases.size(), layers_.size());
  weight_ = Weight::stacked(weights);
  if (!biases.empty()) bias_ = joined(biases, 0);
  std::int64_t first = 0;
  for (Linear* layer : layers_) {
    const std::int64_t outputs = layer->outputs();
    layer->weight = weight_.rows(first, outputs);
    if (bias_.defined()) layer->bias = bias_.with_layout(bias_.layout().slice(0, first, first + outputs));
    layer->group = this;
    first += outputs;
  }
}

std::vector<Tensor> LinearGroup::forward(const Prologue& input, Generator* dropout) const {
  const Tensor x = input.apply();
  if (std::any_of(layers_.begin(), layers_.end(),
                  [&](const Linear* layer) { return drops(*layer, dropout); })) {
    // Each module has a mask of its own, as in peft: so what the adapters see is not shared.
    std::vector<Tensor> outputs;
    outputs.reserve(layers_.size());
    for (const Linear* layer : layers_) outputs.push_back(apply_one(x, *layer, dropout));
    return outputs;
  }
  std::vector<LowRank> adapters;
  std::vector<std::int64_t> sizes;
  std::int64_t first = 0;
  for (const Linear* layer : layers_) {
    if (layer->adapted()) adapters.push_back(low_rank_of(layer->adapter, first));
    sizes.push_back(layer->outputs());
    first += layer->outputs();
  }
  return split(lora_linear(x, weight_, bias_, adapters), -1, sizes);
}

Tensor apply_linear(const Prologue& input, const Linear& layer, Generator* dropout) {
  return apply_one(input.apply(), layer, dropout);
}

void set_weights(std::span<const std::pair<Linear*, Weight>> weights) {
  const NoGrad guard;
  std::map<const Linear*, const Weight*> wanted;
  std::vector<LinearGroup*> groups;
  for (const auto& [layer, weight] : weights) {
    require(weight.defined() && weight.outputs() == layer->outputs() && weight.inputs() == layer->inputs() &&
                weight.dtype() == layer->weight.dtype(),
            "set_weights: the weight of {} must be {} as before; got {}", layer->path, layer->weight.dense(),
            weight.dense());
    wanted[layer] = &weight;
    if (layer->group != nullptr && std::find(groups.begin(), groups.end(), layer->group) == groups.end())
      groups.push_back(layer->group);
  }
  std::vector<Weight> stacked;
  std::vector<std::pair<Linear*, Weight>> rows;
  for (const LinearGroup* group : groups) {
    std::vector<Weight> parts;
    for (const Linear* layer : group->layers_) {
      const auto found = wanted.find(layer);
      parts.push_back(found == wanted.end() ? layer->weight : *found->second);
    }
    stacked.push_back(Weight::stacked(parts));
    std::int64_t first = 0;
    for (Linear* layer : group->layers_) {
      rows.emplace_back(layer, stacked.back().rows(first, layer->outputs()));
      first += layer->outputs();
    }
  }
  // Nothing throws from here on.
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i]->weight_ = stacked[i];
  for (const auto& [layer, weight] : rows) layer->weight = weight;
  for (const auto& [layer, weight] : weights) {
    if (layer->group == nullptr) layer->weight = weight;
  }
}

}  // namespace candela
