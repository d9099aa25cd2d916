#pragma once

#include <string>
#include <vector>

#include <candela/core/tensor.h>

namespace candela {

/// How the angles of the rotary embedding are made, as config.json's rope_parameters (or rope_scaling and
/// rope_theta) tell.
struct RopeConfig {
  std::string type = "default";  ///< default, linear, dynamic, llama3, yarn
  double theta = 10000;
  std::int64_t rotary_dim = 0;  ///< elements of a head that are rotated (head_dim, but for partial rotation)
  std::int64_t max_positions = 2048;  ///< max_position_embeddings
  double factor = 1;
  /// original_max_position_embeddings, for llama3 and yarn; 0: max_positions
  std::int64_t original_max_positions = 0;
  double low_freq_factor = 1, high_freq_factor = 4;             ///< llama3
  double beta_fast = 32, beta_slow = 1;                         ///< yarn
  double attention_factor = 0, mscale = 0, mscale_all_dim = 0;  ///< yarn; 0: derived
  bool truncate = true;                                         ///< yarn: round the correction range
  DType frequency_dtype = DType::F32;  ///< the frequencies are rounded to it before the table is made
};

/// Angular frequencies [rotary_dim / 2] for sequences of `length` tokens (only `dynamic` depends on it), and
/// the factor on cos and sin. Throws Unsupported for an unknown type.
struct RopeFrequencies {
  std::vector<double> inverse;
  double attention_scale = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& config, std::int64_t length);

/// cos and sin, f32 [length, rotary_dim / 2], for positions 0 .. length - 1.
struct RopeTable {
  Tensor cos, sin;
};
RopeTable rope_table(const RopeConfig& config, std::int64_t length, Device device = Device::cpu());

/// Rotary position embedding (Su et al., 2021), halves paired as in transformers: x [B, T, H, D]; positions
/// i32 [T] or [B, T], each below the table's length. Elements beyond rotary_dim pass through. Gradient for x.
Tensor rope(const Tensor& x, const RopeTable& table, const Tensor& positions);

}  // namespace candela
