#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/decoder.h"

/// Phi-3 and Phi-4-mini (Abdin et al., 2024): Llama whose q, k and v are one layer, as are gate and up; a
/// part of each head may rotate.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_sizes(json, {.max_positions = 4096}, config);
  read_decoder(json, config);
  read_rope(json, config);
  read_windows(json, Windows::Always, 0, 0, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  DecoderStyle style;
  style.packed = true;
  return std::make_unique<Decoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kPhi3;
const Architecture kPhi3 = {"phi3", read, make};

}  // namespace candela
