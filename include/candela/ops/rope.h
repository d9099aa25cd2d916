#pragma once

#include <vector>

#include <candela/core/rope_config.h>
#include <candela/core/tensor.h>

namespace candela {

/// Angular frequencies [rotary_dim / 2] for sequences of `length` tokens (only `dynamic` depends on it), and
/// the factor on cos and sin. Throws Unsupported for an unknown type.
struct RopeFrequencies {
  std::vector<double> inverse;
  double attention_scale = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& config, std::int64_t length);

/// cos and sin, f32 [length, rotary_dim / 2], for positions 0 .. length - 1. The frequencies are rounded to
/// `frequency_dtype` first: bf16 gives the table of a model that was cast to bf16 as a whole.
struct RopeTable {
  Tensor cos, sin;
};
RopeTable rope_table(const RopeConfig& config, std::int64_t length, Device device = Device::cpu(),
                     DType frequency_dtype = DType::F32);

/// Rotary position embedding (Su et al., 2021), halves paired as in transformers: x [B, T, H, D]; positions
/// i32 [T] or [B, T], each below the table's length. Elements beyond rotary_dim pass through. Gradient for x.
Tensor rope(const Tensor& x, const RopeTable& table, const Tensor& positions);

}  // namespace candela
