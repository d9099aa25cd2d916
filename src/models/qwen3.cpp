#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// Qwen3 (Yang et al., 2025): Llama with an RMS norm on every head of q and k before the rotation; some
/// layers may have a sliding window.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 32768, .head_dim = 128}, config);
  read_decoder(json, config);
  read_rope(json, config);
  read_windows(json, Windows::OptIn, 4096, 28, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.qkv_bias = style.o_bias = config.attention_bias;
  style.qk_norm = QkNorm::Head;
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kQwen3;
const Architecture kQwen3 = {"qwen3", read, make};

}  // namespace candela
