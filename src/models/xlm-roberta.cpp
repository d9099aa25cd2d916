#include "models/roberta.h"

/// XLM-RoBERTa (Conneau et al., 2019): RoBERTa over many languages, the base of multilingual E5 and BGE-M3.
namespace candela {

extern const Architecture kXlmRoberta;
const Architecture kXlmRoberta = {
    .model_type = "xlm-roberta",
    .read = read_roberta,
    .make = make_roberta,
    .prefix = "roberta.",
    .embedding = "embeddings.word_embeddings.weight",
    .causal = false,
    .unread = {"pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids"}};

}  // namespace candela
