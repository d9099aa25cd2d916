#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <set>

#include <candela/core/grad.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>
#include <candela/train/trainer.h>

namespace candela {
namespace {

/// The geometry of Qwen2.5-7B but for the number of layers, on the plan device.
ModelConfig qwen_7b(int layers) {
  ModelConfig config = ModelConfig::parse(
      R"({"model_type": "qwen2", "vocab_size": 1024, "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 1, "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": false, "initializer_range": 0.02})",
      "7b");
  config.num_layers = layers;
  config.layer_types.assign(static_cast<std::size_t>(layers), "full_attention");
  return config;
}

/// Bytes that the graph behind `result` keeps for its gradient, without the model's own memory. What a node
/// keeps of one storage counts once, however many nodes keep it.
double kept_bytes(const Tensor& result, const Model& model) {
  std::set<const Storage*> own;
  for (const NamedTensor& parameter : model.named_parameters()) own.insert(parameter.tensor.storage().get());
  for (const Tensor& parameter : trainable_parameters(model)) own.insert(parameter.storage().get());
  std::map<const Storage*, double> kept;
  std::set<const GradNode*> seen;
  std::vector<const GradNode*> open = {result.grad_node().get()};
  while (!open.empty()) {
    const GradNode* const node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    for (const GradEdge& edge : node->edges) open.push_back(edge.node.get());
    std::map<const Storage*, double> here;
    for (const GradNode::Saved& saved : node->saved)
      here[saved.storage.get()] +=
          static_cast<double>(numel(saved.shape)) * static_cast<double>(size_of(saved.dtype));
    for (const auto& [storage, bytes] : here) {
      // A node may name one tensor twice: as an input, and as what another input is made again from.
      const double whole = static_cast<double>(storage->bytes());
      if (own.count(storage) == 0) kept[storage] = std::max(kept[storage], std::min(bytes, whole));
    }
  }
  double sum = 0;
  for (const auto& [storage, bytes] : kept) sum += bytes;
  return sum;
}

/// What a forward pass of `tokens` keeps.
double kept_bytes(int layers, std::int64_t tokens, Checkpointing level, double dropout) {
  const auto model = make_model(qwen_7b(layers), {DType::BF16, Device::plan()});
  LoraConfig lora;
  lora.rank = 16;
  lora.dropout = dropout;
  Lora::attach(*model, lora);
  Generator random;
  ForwardOptions options;
  options.dropout = &random;
  options.checkpointing = level;
  const Tensor ids = zeros({1, tokens}, DType::I32, Device::plan());
  return kept_bytes(model->forward_hidden(ids, options), *model);
}

/// Of one layer, per token, in KB (1000 bytes).
double kept_kb(Checkpointing level, double dropout = 0) {
  constexpr std::int64_t kTokens = 1024;
  const double difference = kept_bytes(3, kTokens, level, dropout) - kept_bytes(2, kTokens, level, dropout);
  return difference / kTokens / 1000;
}

TEST(Activations, OfTheGeometryOfQwen7BStayBelowTheirBounds) {
  const double keep = kept_kb(Checkpointing::Keep);
  const double none = kept_kb(Checkpointing::None);
  const double mlp = kept_kb(Checkpointing::Mlp);
  const double layer = kept_kb(Checkpointing::Layer);
  RecordProperty("none_kb", std::to_string(none));
  RecordProperty("mlp_kb", std::to_string(mlp));
  RecordProperty("layer_kb", std::to_string(layer));
  // q, k, v, attention's result and two streams; the gate and up projections beside them; one stream alone.
  EXPECT_LE(none, 110);
  // Two norms and SwiGLU's result more.
  EXPECT_GT(keep, none + 40);
  EXPECT_LE(keep, none + 55);
  EXPECT_LE(mlp, 32);
  EXPECT_LE(layer, 8);
}

TEST(Activations, OfDroppedInputsAreThereAtLevelNoneAlone) {
  EXPECT_GT(kept_kb(Checkpointing::None, 0.1), 150);
  EXPECT_LE(kept_kb(Checkpointing::Layer, 0.1), 8);
}

/// Losses and gradients of some steps with dropout, at a level.
std::vector<double> losses_at(Checkpointing level, DType dtype) {
  const ModelConfig config = ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 0.3})",
      "tiny");
  const auto model = make_model(config, {dtype, Device::cpu()}, 3);
  LoraConfig lora;
  lora.rank = 4;
  lora.dropout = 0.1;
  Lora::attach(*model, lora, 5);
  Generator random(11);
  std::vector<Sample> samples(24);
  for (Sample& sample : samples) {
    const std::uint64_t length = 6 + random.next_below(20);
    for (std::uint64_t t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(random.next_below(96)));
      sample.trained.push_back(1);
    }
  }
  TrainOptions options;
  options.batch_size = 4;
  options.accumulation = 2;
  options.adamw.lr = 1e-2;
  options.max_steps = 6;
  options.checkpointing = level;
  std::vector<double> values;
  Trainer trainer(*model, options);
  trainer.fit(samples, samples, [&](const StepReport& report) {
    values.insert(values.end(), {report.loss, report.grad_norm, report.validation_loss.value_or(0)});
  });
  for (const Tensor& parameter : trainer.parameters()) {
    const std::vector<float> part = parameter.to_vector<float>();
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

TEST(Activations, EveryLevelOfCheckpointingGivesTheSameBits) {
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const std::vector<double> kept = losses_at(Checkpointing::None, dtype);
    EXPECT_EQ(losses_at(Checkpointing::Keep, dtype), kept) << to_string(dtype);
    EXPECT_EQ(losses_at(Checkpointing::Mlp, dtype), kept) << to_string(dtype);
    EXPECT_EQ(losses_at(Checkpointing::Layer, dtype), kept) << to_string(dtype);
  }
}

TEST(Activations, LevelsHaveNames) {
  for (const std::string_view name : {"none", "mlp", "layer"})
    EXPECT_EQ(to_string(parse_checkpointing(name)), name);
  EXPECT_THROW(parse_checkpointing("block"), InvalidArgument);
}

}  // namespace
}  // namespace candela
