#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/encoder.h"

/// XLM-RoBERTa (Conneau et al., 2019): RoBERTa over many languages, the base of multilingual E5 and BGE-M3.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_encoder(json, {.max_positions = 512, .token_types = 2, .pad = 1}, config);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  EncoderStyle style;
  // The padding id's row is kept for padding; the first token has the one behind it.
  style.first_position = config.pad_token_id.value_or(1) + 1;
  style.padding_has_no_position = true;
  return std::make_unique<Encoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kXlmRoberta;
const Architecture kXlmRoberta = {
    .model_type = "xlm-roberta",
    .read = read,
    .make = make,
    .prefix = "roberta.",
    .embedding = "embeddings.word_embeddings.weight",
    .causal = false,
    .unread = {"pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids"}};

}  // namespace candela
