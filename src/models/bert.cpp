#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/encoder.h"

/// BERT (Devlin et al., 2018), as embedders use it: MiniLM, BGE, E5.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_encoder(json, {.max_positions = 512, .token_types = 2}, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  EncoderStyle style;
  return std::make_unique<Encoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kBert;
const Architecture kBert = {
    .model_type = "bert",
    .read = read,
    .make = make,
    .prefix = "bert.",
    .embedding = "embeddings.word_embeddings.weight",
    .causal = false,
    .unread = {"pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids"}};

}  // namespace candela
