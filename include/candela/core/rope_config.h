#pragma once

#include <cstdint>
#include <string>

namespace candela {

/// How the angles of the rotary embedding are made, as config.json tells: `rope_parameters` (transformers 5),
/// or `rope_theta` and `rope_scaling` (transformers 4). Fields that the type does not use keep their
/// defaults.
struct RopeConfig {
  std::string type = "default";  ///< default, linear, dynamic, llama3, yarn
  double theta = 10000;
  /// elements of a head that are rotated (head_dim, but for partial rotation)
  std::int64_t rotary_dim = 0;
  /// max_position_embeddings
  std::int64_t max_positions = 2048;
  /// all types but default; where yarn has none: max_positions / original_max_positions
  double factor = 1;
  /// original_max_position_embeddings, for llama3 and yarn; 0: max_positions
  std::int64_t original_max_positions = 0;
  /// llama3
  double low_freq_factor = 1, high_freq_factor = 4;
  /// yarn
  double beta_fast = 32, beta_slow = 1;
  /// yarn; 0: not given
  double attention_factor = 0, mscale = 0, mscale_all_dim = 0;
  /// yarn: round the correction range to whole dimensions
  bool truncate = true;
};

}  // namespace candela
