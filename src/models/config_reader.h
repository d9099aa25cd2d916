#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include <candela/models/config.h>

#include "io/json.h"

/// Fields of config.json that several architectures share. Each reader fills a part of the ModelConfig, and
/// throws IoError with file and field where one is missing or wrong, Unsupported for a value that is not
/// known. Defaults are what transformers assumes where the field is absent.
namespace candela {

using io::JsonObject;

struct SizeDefaults {
  std::int64_t max_positions = 2048;
  /// 0: hidden_size / num_attention_heads
  std::int64_t head_dim = 0;
  /// 0: num_attention_heads
  std::int64_t kv_heads = 0;
};

/// vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
/// head_dim, max_position_embeddings.
void read_sizes(const JsonObject& json, const SizeDefaults& defaults, ModelConfig& config);

/// The activation under `key`: one of `known`.
void read_activation(const JsonObject& json, const char* key, const char* otherwise,
                     std::initializer_list<std::string_view> known, ModelConfig& config);

/// rms_norm_eps, hidden_act (silu), tie_word_embeddings, attention_bias: what Llama's kin share.
void read_decoder(const JsonObject& json, ModelConfig& config, bool tied = false);

struct EncoderDefaults {
  std::int64_t max_positions = 512;
  /// 0: the architecture has none
  std::int64_t token_types = 0;
  /// pad_token_id
  std::int64_t pad = 0;
};

/// Sizes, layer_norm_eps, hidden_act (gelu), type_vocab_size, pad_token_id: what BERT's kin share.
void read_encoder(const JsonObject& json, const EncoderDefaults& defaults, ModelConfig& config);

/// The angles of rope from rope_parameters, or rope_theta and rope_scaling; after read_sizes.
void read_rope(const JsonObject& json, ModelConfig& config, double theta = 10000);

/// Rope of layers with and without a window, each under its kind in rope_parameters, or as rope_theta with
/// rope_scaling and `sliding_key` of transformers 4; after read_sizes.
void read_ropes_by_kind(const JsonObject& json, double theta, const char* sliding_key, double sliding_theta,
                        ModelConfig& config);

/// A number above 0 that f32 can hold.
double positive_number(const JsonObject& json, const char* key, double otherwise);

/// When layers attend to the last `sliding_window` positions only.
enum class Windows : std::uint8_t {
  Never,
  /// wherever sliding_window is not null
  Always,
  /// with use_sliding_window, from layer max_window_layers on
  OptIn,
};

/// sliding_window, use_sliding_window, max_window_layers and layer_types; after read_sizes.
void read_windows(const JsonObject& json, Windows windows, std::int64_t window, std::int64_t full_layers,
                  ModelConfig& config);

/// layer_types as written, else every `pattern`-th layer full and the others sliding.
void read_layer_pattern(const JsonObject& json, std::int64_t pattern, ModelConfig& config);

}  // namespace candela
