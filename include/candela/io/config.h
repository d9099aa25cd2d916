#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/dtype.h>
#include <candela/core/rope_config.h>

namespace candela {

/// What config.json says of a causal language model, with the defaults of its model_type filled in: llama,
/// mistral, qwen2 and qwen3.
struct ModelConfig {
  std::string source;      ///< the file, for errors
  std::string model_type;  ///< llama, mistral, qwen2, qwen3
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_layers = 0;    ///< num_hidden_layers
  std::int64_t num_heads = 0;     ///< num_attention_heads
  std::int64_t num_kv_heads = 0;  ///< num_key_value_heads; divides num_heads
  std::int64_t head_dim = 0;      ///< even; hidden_size / num_heads where the file has none
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  std::string hidden_act = "silu";
  bool tie_word_embeddings = false;
  bool attention_bias = false;  ///< as written; qwen2 has its bias on q, k and v whatever it says
  bool mlp_bias = false;        ///< llama only
  /// Whether any layer attends to the last `sliding_window` positions only, the token's own included. 0: no
  /// window.
  bool use_sliding_window = false;
  std::int64_t sliding_window = 0;
  std::int64_t max_window_layers = 0;  ///< layers below it attend to everything (qwen2, qwen3)
  /// Per layer, "full_attention" or "sliding_attention": as written, or as the model type derives them from
  /// the fields above.
  std::vector<std::string> layer_types;
  RopeConfig rope;
  DType dtype = DType::F32;  ///< of the stored weights: `dtype` or `torch_dtype`; the tensors themselves have
                             ///< the last word

  /// Each below vocab_size. From generation_config.json where it has them, else from config.json. Padding is
  /// never seen by a real token, so that a model without it (or with -1) is fine.
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> pad_token_id;
  /// Any of these ends a text that is generated; see text_frame() for the one that ends a training row.
  std::vector<std::int64_t> eos_token_ids;
  std::string generation_source;  ///< the generation_config.json, for errors; empty: there is none
  /// From generation_config.json, where given and as written there: see default_sampling() and
  /// check_sampling().
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> top_k;
  std::optional<bool> do_sample;
  /// From tokenizer_config.json, where given: the texts of the tokens, and whether BOS goes in front whatever
  /// the post-processor of tokenizer.json says.
  std::optional<std::string> bos_token, eos_token, pad_token;
  std::optional<bool> add_bos_token;

  /// Reads config.json in `folder`, and generation_config.json and tokenizer_config.json where they exist.
  /// IoError with file and field if one is missing, of the wrong type or contradicts another; Unsupported for
  /// a model_type, hidden_act or rope type that is not known, or a quantized checkpoint.
  static ModelConfig load(const std::filesystem::path& folder);
  /// As load, from the text of a config.json alone; `source` stands for the file in errors.
  static ModelConfig parse(std::string_view json, const std::string& source);
};

}  // namespace candela
