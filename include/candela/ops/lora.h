#pragma once

#include <cstdint>
#include <span>

#include <candela/core/tensor.h>
#include <candela/ops/weight.h>

namespace candela {

/// A low-rank adapter (Hu et al., 2021): adds scale (x a^T) b^T to outputs [first_output, first_output + O_i)
/// of a linear layer, or of one in a group.
struct LowRank {
  /// [r, I], f32 or the weight's dtype
  Tensor a;
  /// [O_i, r]
  Tensor b;
  double scale = 1;
  std::int64_t first_output = 0;
};

/// y = x weight^T + bias, plus every adapter, as one fused op: x [..., I], weight [O, I], bias [O] or
/// undefined -> [..., O] in x's dtype, which weight and bias have too (f64 as reference). Linear layers that
/// share their input are one weight, their rows below each other, and one packed result: split() makes each
/// layer's. The A matrices are multiplied as one; they lie best below each other in one tensor.
/// `lora_x` is what the adapters see: undefined for x itself, or dropout(x). Gradients for x, lora_x (none
/// without adapters) and every a, b; a weight or bias that requires a gradient takes the composed way. Throws
/// InvalidArgument unless there are at most 8 adapters, in the order of their outputs and without overlap,
/// which share a dtype, and shapes, dtypes and devices fit.
Tensor lora_linear(const Tensor& x, const Weight& weight, const Tensor& bias,
                   std::span<const LowRank> adapters, const Tensor& lora_x = {});

}  // namespace candela
