#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>

namespace candela {

/// A low-rank adapter on a linear layer: adds scale (x a^T) b^T to its output (Hu et al., 2021).
struct LoraAdapter {
  Tensor a;  ///< [r, I]; undefined: no adapter
  Tensor b;  ///< [O, r]
  double scale = 1;
  double dropout = 0;  ///< probability that an element of the adapter's input is dropped in training
  bool enabled = true;
  Tensor original;  ///< while merged into the layer's weight: the weight before, if it was kept
  bool merged = false;
};

/// A linear layer of a model: y = x weight^T + bias, and the place where an adapter attaches.
struct Linear {
  std::string path;  ///< the module path of transformers, "model.layers.0.self_attn.q_proj"
  Tensor weight;     ///< [O, I]
  Tensor bias;       ///< [O] or undefined
  LoraAdapter adapter;

  std::int64_t inputs() const { return weight.size(1); }
  std::int64_t outputs() const { return weight.size(0); }
  bool adapted() const { return adapter.a.defined() && adapter.enabled && !adapter.merged; }
};

/// The outputs [..., O] of layers that share the input x [..., I], as one fused op where any of them is
/// adapted. With a generator, the input of each adapter goes through dropout (training), with a mask of its
/// own. Gradients for x and the adapters.
std::vector<Tensor> apply_linear(const Tensor& x, std::initializer_list<const Linear*> layers,
                                 Generator* dropout = nullptr);

/// The same for one layer.
Tensor apply_linear(const Tensor& x, const Linear& layer, Generator* dropout = nullptr);

}  // namespace candela
