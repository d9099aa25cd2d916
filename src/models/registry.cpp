#include "models/registry.h"

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/random.h>

#include "io/architectures.h"
#include "models/architectures.h"

namespace candela {
namespace {

void check_geometry(const ModelConfig& config) {
  const std::string& type = config.model_type;
  const auto positive = [&](const char* field, std::int64_t value) {
    require(value > 0, "{}: {} must be positive; got {}", type, field, value);
  };
  positive("vocab_size", config.vocab_size);
  positive("hidden_size", config.hidden_size);
  positive("intermediate_size", config.intermediate_size);
  positive("num_hidden_layers", config.num_layers);
  positive("num_attention_heads", config.num_heads);
  positive("num_key_value_heads", config.num_kv_heads);
  positive("head_dim", config.head_dim);
  require(config.num_heads % config.num_kv_heads == 0,
          "{}: num_attention_heads must be a multiple of num_key_value_heads; got {} and {}", type,
          config.num_heads, config.num_kv_heads);
  require(
      !config.use_sliding_window || config.layer_types.size() == static_cast<std::size_t>(config.num_layers),
      "{}: layer_types must name each of {} layers; got {}", type, config.num_layers,
      config.layer_types.size());
}

/// Weights drawn at random, the way transformers initialises these architectures.
class RandomWeights final : public WeightSource {
 public:
  RandomWeights(const ModelConfig& config, const LoadOptions& options, std::uint64_t seed)
      : stddev_(config.initializer_range),
        dtype_(options.dtype.value_or(DType::F32)),
        options_(options),
        generator_(seed) {}

  DType dtype() const override { return dtype_; }
  Device device() const override { return options_.device; }
  bool bf16_rope_frequencies() const override { return options_.bf16_rope_frequencies; }

  Tensor take(const std::string& name, const Shape& shape) override {
    if (name.ends_with("norm.weight")) return ones(shape, dtype_, options_.device);
    if (name.ends_with(".bias")) return zeros(shape, dtype_, options_.device);
    return normal(shape, generator_, 0, stddev_, dtype_, options_.device);
  }
  void finish() override {}

 private:
  double stddev_;
  DType dtype_;
  LoadOptions options_;
  Generator generator_;
};

}  // namespace

std::unique_ptr<Model> build_model(const ModelConfig& config, WeightSource& source) {
  const Architecture* const architecture = find_architecture(config.model_type);
  require<Unsupported>(architecture != nullptr, "config.json: model_type must be one of {}; got {}",
                       architecture_names(), config.model_type);
  check_geometry(config);
  switch (architecture->type) {
    case ModelType::Llama:
      return make_llama(config, source);
    case ModelType::Mistral:
      return make_mistral(config, source);
    case ModelType::Qwen2:
      return make_qwen2(config, source);
    case ModelType::Qwen3:
      return make_qwen3(config, source);
  }
  throw Unsupported("build_model: unknown architecture");
}

std::vector<std::string> model_types() {
  std::vector<std::string> types;
  types.reserve(std::size(kArchitectures));
  for (const Architecture& architecture : kArchitectures) types.emplace_back(architecture.name);
  return types;
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const LoadOptions& options, std::uint64_t seed) {
  RandomWeights source(config, options, seed);
  return build_model(config, source);
}

KvCache Model::make_cache(std::int64_t batch, std::int64_t capacity) const {
  const ModelConfig& c = config();
  return KvCache({static_cast<int>(c.num_layers), c.num_kv_heads, c.head_dim, dtype(), device()}, batch,
                 capacity);
}

std::int64_t Model::parameter_count() const {
  std::int64_t count = 0;
  for (const NamedTensor& parameter : named_parameters()) count += parameter.tensor.numel();
  return count;
}

Tensor shift_labels(const Tensor& labels) {
  require(labels.defined() && labels.rank() == 2 && labels.size(1) > 0,
          "shift_labels: labels must be [B, T], not empty; got {}", labels);
  Tensor end = full({labels.size(0), 1}, static_cast<double>(kIgnoreIndex), labels.dtype(), labels.device());
  if (labels.size(1) == 1) return end;
  return concat({slice(labels, 1, 1, labels.size(1)), end}, 1);
}

}  // namespace candela
