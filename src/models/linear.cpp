#include <algorithm>

#include <candela/models/linear.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

namespace candela {
namespace {

LoraLinear branch_of(const Linear& layer) {
  LoraLinear branch{layer.weight, layer.bias, {}, {}, layer.adapter.scale};
  if (layer.adapted()) {
    branch.a = layer.adapter.a;
    branch.b = layer.adapter.b;
  }
  return branch;
}

}  // namespace

std::vector<Tensor> apply_linear(const Tensor& x, std::initializer_list<const Linear*> layers,
                                 Generator* dropout) {
  const auto adapted =
      std::find_if(layers.begin(), layers.end(), [](const Linear* layer) { return layer->adapted(); });
  const bool drops = dropout != nullptr && std::any_of(layers.begin(), layers.end(), [](const Linear* layer) {
                       return layer->adapted() && layer->adapter.dropout > 0;
                     });
  std::vector<Tensor> outputs;
  outputs.reserve(layers.size());
  if (adapted == layers.end() || drops) {
    // Each module has a mask of its own, as in peft: so what the adapters see is not shared.
    for (const Linear* layer : layers) {
      if (!layer->adapted()) {
        outputs.push_back(linear(x, layer->weight, layer->bias));
        continue;
      }
      const double p = layer->adapter.dropout;
      const Tensor seen = p > 0 ? candela::dropout(x, p, *dropout) : Tensor();
      outputs.push_back(lora_linear(x, std::vector{branch_of(*layer)}, seen).front());
    }
    return outputs;
  }
  std::vector<LoraLinear> branches;
  branches.reserve(layers.size());
  for (const Linear* layer : layers) branches.push_back(branch_of(*layer));
  return lora_linear(x, branches);
}

Tensor apply_linear(const Tensor& x, const Linear& layer, Generator* dropout) {
  return apply_linear(x, {&layer}, dropout).front();
}

}  // namespace candela
