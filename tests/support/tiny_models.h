#pragma once

#include <string>

#include <candela/models/config.h>

namespace candela::test {

/// A model that runs in a millisecond: 2 blocks of 4 heads on 2 key heads, vocabulary 50. `extra` are further
/// fields of config.json, each with a comma in front.
inline ModelConfig tiny_config(const std::string& model_type, const std::string& extra = "") {
  const bool encoder = model_type.ends_with("bert") || model_type == "mpnet" || model_type == "roberta" ||
                       model_type == "xlm-roberta";
  return ModelConfig::parse(R"({"model_type": ")" + model_type +
                                R"(", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
      "rms_norm_eps": 1e-6, "initializer_range": 0.2, "hidden_act": ")" +
                                (encoder ? "gelu" : "silu") + "\"" + extra + "}",
                            "tiny " + model_type);
}

}  // namespace candela::test
