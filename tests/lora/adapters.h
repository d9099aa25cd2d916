#pragma once

#include <string>
#include <utility>
#include <vector>

#include <candela/core/grad.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>

#include "support/golden.h"

/// Adapters for tests: configurations in one line, and values that do something.
namespace candela::test {

inline LoraConfig names(std::vector<std::string> targets) {
  LoraConfig config;
  config.targets = {std::move(targets), ""};
  return config;
}

inline LoraConfig pattern(std::string targets) {
  LoraConfig config;
  config.targets = {{}, std::move(targets)};
  return config;
}

inline std::vector<std::string> adapted_paths(const Model& model) {
  std::vector<std::string> paths;
  for (const Linear& layer : model.linears()) {
    if (layer.adapter.a.defined()) paths.push_back(layer.path);
  }
  return paths;
}

inline Tensor some_ids() {
  return Tensor::from_values<std::int32_t>({1, 5, 9, 30, 2, 2, 48, 17, 3, 11}, {2, 5});
}

inline std::vector<double> logits_of(Model& model) {
  const NoGrad guard;
  return values_of(model.logits(model.forward_hidden(some_ids())));
}

/// Gives every B values other than zero, so that the adapters do something.
inline void stir(const Lora& lora) {
  const NoGrad guard;
  Generator generator(99);
  for (const NamedTensor& parameter : lora.parameters()) {
    if (!parameter.name.ends_with("lora_B.weight")) continue;
    std::vector<float> values(static_cast<std::size_t>(parameter.tensor.numel()));
    for (float& value : values) value = 0.2F * generator.next_uniform() - 0.1F;
    copy_(parameter.tensor.detach(), Tensor::from_values(values, parameter.tensor.shape()));
  }
}

}  // namespace candela::test
