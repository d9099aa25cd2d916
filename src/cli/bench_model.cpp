#include "cli/bench_model.h"

#include <candela/models/config.h>

namespace candela::cli {
namespace {

/// The geometry of Qwen2.5-0.5B, from its published config.json.
constexpr const char* kQwen05 = R"({
  "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
  "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
  "rope_theta": 1000000.0, "tie_word_embeddings": true, "hidden_act": "silu", "torch_dtype": "bfloat16"})";

}  // namespace

std::unique_ptr<Model> bench_model(const std::string& folder, const LoadOptions& options) {
  if (!folder.empty()) return load_model(folder, options);
  return make_model(ModelConfig::parse(kQwen05, "Qwen2.5-0.5B"), options, 1);
}

std::string bench_model_name(const std::string& folder) {
  return folder.empty() ? "Qwen2.5-0.5B geometry, random weights" : folder;
}

}  // namespace candela::cli
