#include "models/roberta.h"

#include "models/config_reader.h"
#include "models/encoder.h"

/// RoBERTa (Liu et al., 2019): BERT whose positions begin behind the padding id.
namespace candela {

void read_roberta(const JsonObject& json, ModelConfig& config) {
  read_encoder(json, {.max_positions = 512, .token_types = 2, .pad = 1}, config);
}

std::unique_ptr<Backbone> make_roberta(const ModelConfig& config, Parameters& parameters) {
  EncoderStyle style;
  // The padding id's row is kept for padding; the first token has the one behind it.
  style.first_position = config.pad_token_id.value_or(1) + 1;
  style.padding_has_no_position = true;
  return std::make_unique<Encoder>(config, style, parameters);
}

extern const Architecture kRoberta;
const Architecture kRoberta = {
    .model_type = "roberta",
    .read = read_roberta,
    .make = make_roberta,
    .prefix = "roberta.",
    .embedding = "embeddings.word_embeddings.weight",
    .causal = false,
    .unread = {"pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids"}};

}  // namespace candela
