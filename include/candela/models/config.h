#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/dtype.h>
#include <candela/core/rope_config.h>
#include <candela/io/text_config.h>

namespace candela {

/// What config.json says of a model, with the defaults of its model_type filled in.
struct ModelConfig : TextConfig {
  /// the file, for errors
  std::string source;
  /// one of model_types()
  std::string model_type;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  /// num_hidden_layers
  std::int64_t num_layers = 0;
  /// num_attention_heads
  std::int64_t num_heads = 0;
  /// num_key_value_heads; divides num_heads
  std::int64_t num_kv_heads = 0;
  /// hidden_size / num_heads where the file has none
  std::int64_t head_dim = 0;
  /// rms_norm_eps or layer_norm_eps
  double norm_eps = 1e-6;
  double initializer_range = 0.02;
  std::string hidden_act = "silu";
  bool tie_word_embeddings = false;
  /// as written; qwen2 has its bias on q, k and v whatever it says
  bool attention_bias = false;
  /// as written, for model types that have it
  bool mlp_bias = false;
  /// Whether any layer attends to the last `sliding_window` positions only, the token's own included. 0: no
  /// window.
  bool use_sliding_window = false;
  std::int64_t sliding_window = 0;
  /// layers below it attend to everything (qwen2, qwen3)
  std::int64_t max_window_layers = 0;
  /// Per layer, "full_attention" or "sliding_attention": as written, or as the model type derives them from
  /// the fields above.
  std::vector<std::string> layer_types;
  RopeConfig rope;
  /// of layers with a window, where they have a rope of their own
  std::optional<RopeConfig> sliding_rope;
  /// whether each layer rotates q and k; empty: all do
  std::vector<bool> rope_layers;
  /// factor on q k^T; 0: 1 / sqrt(head_dim)
  double attention_scale = 0;
  /// of the output layer's logits
  double logit_multiplier = 1;
  /// c: logits become c tanh(logits / c); 0: they do not
  double logit_softcap = 0;
  /// of the stored weights: `dtype` or `torch_dtype`; the tensors themselves have the last word
  DType dtype = DType::F32;

  /// Encoders: rows of their embeddings of token types, and the buckets of relative positions; 0: none.
  std::int64_t type_vocab_size = 0;
  std::int64_t relative_buckets = 0;

  /// Whether layer `layer` attends to the last sliding_window positions only.
  bool slides(std::int64_t layer) const;

  /// Reads config.json in `folder`, and generation_config.json and tokenizer_config.json where they exist.
  /// IoError with file and field if one is missing, of the wrong type or contradicts another; Unsupported for
  /// a model_type, hidden_act or rope type that is not known, or a quantized checkpoint.
  static ModelConfig load(const std::filesystem::path& folder);
  /// As load, from the text of a config.json alone; `source` stands for the file in errors.
  static ModelConfig parse(std::string_view json, const std::string& source);
};

}  // namespace candela
