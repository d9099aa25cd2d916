#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// Mistral (Jiang et al., 2023): Llama without biases, whose attention sees no more than the last
/// `sliding_window` tokens.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 131072}, config);
  read_decoder(json, config);
  read_rope(json, config);
  read_windows(json, Windows::Always, 4096, 0, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  return std::make_unique<Decoder>(config, DecoderStyle(), parameters);
}

}  // namespace

extern const Architecture kMistral;
const Architecture kMistral = {"mistral", read, make};

}  // namespace candela
