#include <algorithm>

#include <candela/models/linear.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

namespace candela {

std::vector<Tensor> apply_linear(const Tensor& x, std::initializer_list<const Linear*> layers,
                                 Generator* dropout) {
  const auto adapted =
      std::find_if(layers.begin(), layers.end(), [](const Linear* layer) { return layer->adapted(); });
  if (adapted == layers.end()) {
    std::vector<Tensor> outputs;
    outputs.reserve(layers.size());
    for (const Linear* layer : layers) outputs.push_back(linear(x, layer->weight, layer->bias));
    return outputs;
  }
  std::vector<LoraLinear> branches;
  branches.reserve(layers.size());
  for (const Linear* layer : layers) {
    LoraLinear branch{layer->weight, layer->bias, {}, {}, layer->adapter.scale};
    if (layer->adapted()) {
      branch.a = layer->adapter.a;
      branch.b = layer->adapter.b;
    }
    branches.push_back(std::move(branch));
  }
  const double p = (*adapted)->adapter.dropout;
  const Tensor lora_x = dropout != nullptr && p > 0 ? candela::dropout(x, p, *dropout) : Tensor();
  return lora_linear(x, branches, lora_x);
}

Tensor apply_linear(const Tensor& x, const Linear& layer, Generator* dropout) {
  return apply_linear(x, {&layer}, dropout).front();
}

}  // namespace candela
