#include <cmath>

#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// Gemma 3 (Gemma Team, 2025), text only: norms of weight 1 + w before and after each half of a block and on
/// the heads of q and k, GELU, embeddings times sqrt(D), five layers with a window for each without, and rope
/// of another base in them.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 131072, .head_dim = 256, .kv_heads = 4}, config);
  config.norm_eps = positive_number(json, "rms_norm_eps", 1e-6);
  read_activation(json, "hidden_activation", "gelu_pytorch_tanh", {"gelu_pytorch_tanh"}, config);
  config.tie_word_embeddings = json.boolean("tie_word_embeddings", true);
  config.attention_bias = json.boolean("attention_bias", false);
  for (const char* key : {"attn_logit_softcapping", "use_bidirectional_attention"}) {
    const bool set = json.has(key) && json.at(key) != false;
    require<Unsupported>(!set, "{}: {} is not supported for gemma3_text; got {}", json.source(), key,
                         set ? io::shown(json.at(key)) : "");
  }
  config.logit_softcap =
      json.has("final_logit_softcapping") ? positive_number(json, "final_logit_softcapping", 0) : 0;
  config.attention_scale = 1 / std::sqrt(positive_number(json, "query_pre_attn_scalar", 256));
  config.sliding_window = json.positive("sliding_window", 4096);
  config.use_sliding_window = true;
  read_layer_pattern(json, json.positive("sliding_window_pattern", 6), config);
  read_ropes_by_kind(json, 1000000, "rope_local_base_freq", 10000, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.norm = NormKind::RmsPlusOne;
  style.norms = {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                 "post_feedforward_layernorm"};
  style.qk_norm = QkNorm::Head;
  style.qkv_bias = style.o_bias = config.attention_bias;
  style.embedding_multiplier = std::sqrt(static_cast<double>(config.hidden_size));
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kGemma3Text;
const Architecture kGemma3Text = {"gemma3_text", read, make};

}  // namespace candela
