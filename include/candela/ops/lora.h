#pragma once

#include <span>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>

namespace candela {

/// A linear layer and its low-rank adapter (Hu et al., 2021): y = x weight^T + bias + scale (x a^T) b^T.
struct LoraLinear {
  Tensor weight;  ///< [O, I], f32, bf16 or f16
  Tensor bias;    ///< [O] or undefined
  Tensor a;       ///< [r, I], f32 or weight's dtype; undefined: no adapter on this one
  Tensor b;       ///< [O, r]
  double scale = 1;
};

/// Linear layers that share the input x [..., I], each with its adapter, as one fused op: the A matrices are
/// multiplied as one. Returns y [..., O] of each, in x's dtype, which weight and bias have too (f64 as
/// reference). `lora_x` is what the adapters see: undefined for x itself, or dropout(x). Gradients for x,
/// lora_x (none where no layer has an adapter) and every a, b; a weight or bias that requires a gradient
/// takes the composed way. Throws InvalidArgument unless there are 1 to 8 layers, a and b come together, all
/// adapters share a dtype, and shapes, dtypes and devices fit.
std::vector<Tensor> lora_linear(const Tensor& x, std::span<const LoraLinear> layers,
                                const Tensor& lora_x = {});

}  // namespace candela
