#include "models/architecture.h"
#include "models/config_reader.h"
#include "models/encoder.h"

/// MPNet (Song et al., 2020): BERT without token types, with a bias on attention by relative position.
namespace candela {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_encoder(json, {.max_positions = 512, .pad = 1}, config);
  config.relative_buckets = json.positive("relative_attention_num_buckets", 32);
}

std::unique_ptr<Backbone> make(const ModelConfig& config, Parameters& parameters) {
  EncoderStyle style;
  style.query = "attention.attn.q";
  style.key = "attention.attn.k";
  style.value = "attention.attn.v";
  style.attention_out = "attention.attn.o";
  style.attention_norm = "attention.LayerNorm";
  // The padding id's row is kept for padding; the first token has the one behind it.
  style.first_position = config.pad_token_id.value_or(1) + 1;
  style.padding_has_no_position = true;
  return std::make_unique<Encoder>(config, style, parameters);
}

}  // namespace

extern const Architecture kMpnet;
const Architecture kMpnet = {
    .model_type = "mpnet",
    .read = read,
    .make = make,
    .prefix = "mpnet.",
    .embedding = "embeddings.word_embeddings.weight",
    .causal = false,
    .unread = {"pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids"}};

}  // namespace candela
