#include <algorithm>

#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// SmolLM3 (Bakouch et al., 2025): Llama with layers that do not rotate q and k, every fourth by default
/// (NoPE, Yang et al., 2025).
namespace candela {
namespace {

void read_rope_layers(const JsonObject& json, ModelConfig& config) {
  const auto layers = static_cast<std::size_t>(config.num_layers);
  if (!json.has("no_rope_layers")) {
    const std::int64_t interval = json.positive("no_rope_layer_interval", 4);
    for (std::int64_t i = 0; i < config.num_layers; ++i)
      config.rope_layers.push_back((i + 1) % interval != 0);
    return;
  }
  const std::vector<std::int64_t> flags = json.integers_or_one("no_rope_layers");
  const bool fits = flags.size() == layers &&
                    std::all_of(flags.begin(), flags.end(), [](std::int64_t f) { return f == 0 || f == 1; });
  if (!fits) json.fail("no_rope_layers", fmt::format("{} entries of 0 or 1, one per layer", layers));
  // Despite the name, 1 is a layer that rotates.
  for (const std::int64_t flag : flags) config.rope_layers.push_back(flag == 1);
}

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 32768, .kv_heads = 4}, config);
  read_decoder(json, config, true);
  config.mlp_bias = json.boolean("mlp_bias", false);
  read_rope(json, config, 2000000);
  read_windows(json, Windows::OptIn, 0, 0, config);
  read_rope_layers(json, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.qkv_bias = style.o_bias = config.attention_bias;
  style.mlp_bias = config.mlp_bias;
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kSmollm3;
const Architecture kSmollm3 = {"smollm3", read, make};

}  // namespace candela
