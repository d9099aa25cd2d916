#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// Qwen2 and Qwen2.5 (Yang et al., 2024): Llama with biases on q, k and v; some layers may have a sliding
/// window.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 32768}, config);
  read_decoder(json, config);
  read_rope(json, config);
  read_windows(json, Windows::OptIn, 4096, 28, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.qkv_bias = true;
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2 = {"qwen2", read, make};

}  // namespace candela
