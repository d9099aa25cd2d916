#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// ModernBERT (Warner et al., 2024): an encoder of pre-norm blocks with rope and GeGLU, no biases, a window
/// both ways in two layers of three, and rope of another base in them.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 8192}, config);
  config.norm_eps = positive_number(json, "norm_eps", 1e-5);
  read_activation(json, "hidden_activation", "gelu", {"gelu"}, config);
  for (const char* key : {"norm_bias", "attention_bias", "mlp_bias"}) {
    require<Unsupported>(!json.boolean(key, false), "{}: {} must be false for modernbert; got true",
                         json.source(), key);
  }
  // Tokens see as many to each side; the token's own position counts too.
  config.sliding_window = json.positive("local_attention", 128) / 2 + 1;
  config.use_sliding_window = true;
  if (json.has("layer_types")) {
    read_layer_pattern(json, 1, config);
  } else {
    const std::int64_t every = json.positive("global_attn_every_n_layers", 3);
    for (std::int64_t i = 0; i < config.num_layers; ++i)
      config.layer_types.emplace_back(i % every == 0 ? "full_attention" : "sliding_attention");
  }
  const double theta = positive_number(json, "global_rope_theta", 160000);
  read_ropes_by_kind(json, theta, "local_rope_theta", 10000, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.norm = NormKind::LayerNoBias;
  style.names = {.embedding = "embeddings.tok_embeddings.weight",
                 .embedding_norm = "embeddings.norm",
                 .layers = "layers.",
                 .final_norm = "final_norm",
                 .attention = "attn",
                 .qkv = "Wqkv",
                 .o = "Wo",
                 .gate_up = "Wi",
                 .down = "Wo"};
  style.norms = {"attn_norm", nullptr, "mlp_norm", nullptr};
  style.first_attention_norm = false;
  style.packed = true;
  style.causal = false;
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kModernbert;
const Architecture kModernbert = {.model_type = "modernbert",
                                  .read = read,
                                  .make = make,
                                  .prefix = "model.",
                                  .embedding = "embeddings.tok_embeddings.weight",
                                  .causal = false,
                                  .unread = {"head.", "decoder.", "classifier."}};

}  // namespace candela
