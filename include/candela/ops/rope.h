#pragma once

#include <vector>

#include <candela/core/rope_config.h>
#include <candela/core/tensor.h>

namespace candela {

/// Angular frequencies [rotary_dim / 2] for sequences of `length` tokens (only `dynamic` depends on it), and
/// the factor on cos and sin. Throws Unsupported for an unknown type, InvalidArgument for a rotary_dim that
/// is not positive and even, or a theta or factor that is not positive.
struct RopeFrequencies {
  std::vector<double> inverse;
  double attention_scale = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& config, std::int64_t length);

/// cos and sin, f32 [length, rotary_dim / 2], for positions 0 .. length - 1. `bf16_frequencies` rounds the
/// frequencies to bf16 first: the table of a model that was cast to bf16 as a whole. Errors as
/// rope_frequencies.
struct RopeTable {
  Tensor cos, sin;
};
RopeTable rope_table(const RopeConfig& config, std::int64_t length, Device device = Device::cpu(),
                     bool bf16_frequencies = false);

/// Rotary position embedding (Su et al., 2021), halves paired as in transformers: x [B, T, H, D], f32, bf16
/// or f16 (f64 as reference); positions i32 [T] or [B, T]. Elements beyond rotary_dim pass through. Gradient
/// for x; Unsupported if cos or sin requires one. InvalidArgument if shapes, dtypes or devices do not fit,
/// or, where the host can read positions, one of them is not in [0, the table's length).
Tensor rope(const Tensor& x, const RopeTable& table, const Tensor& positions);

/// x = rope(x) in place, outside autograd. Errors as rope; Unsupported if autograd tracks x, InvalidArgument
/// if elements of x share memory.
void rope_(const Tensor& x, const RopeTable& table, const Tensor& positions);

}  // namespace candela
