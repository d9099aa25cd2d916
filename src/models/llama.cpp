#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// Llama 1 to 3 (Touvron et al., 2023): RMS norm before each half of a block, rotary positions, grouped-query
/// attention, gated MLP.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 2048}, config);
  read_decoder(json, config);
  config.mlp_bias = json.boolean("mlp_bias", false);
  read_rope(json, config);
  read_windows(json, Windows::Never, 0, 0, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.qkv_bias = style.o_bias = config.attention_bias;
  style.mlp_bias = config.mlp_bias;
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {"llama", read, make};

}  // namespace candela
