#include "models/registry.h"

#include <numeric>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/random.h>

#include "models/architecture.h"

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

  bool has(const std::string&) const override { return true; }
  Tensor take(const std::string&, const Shape& shape, Init init) override {
    if (init == Init::Ones) return ones(shape, dtype_, options_.device);
    if (init == Init::Zeros) return zeros(shape, dtype_, options_.device);
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

std::unique_ptr<Model> build_model(const ModelConfig& config, WeightSource& source, bool backbone_only) {
  const Architecture* const architecture = find_architecture(config.model_type);
  require<Unsupported>(architecture != nullptr, "config.json: model_type must be one of {}; got {}",
                       architecture_names(), config.model_type);
  check_geometry(config);
  auto parameters = std::make_unique<Parameters>(source);
  std::unique_ptr<Backbone> backbone = architecture->make(config, *parameters);
  const Linear* head = nullptr;
  if (architecture->causal && !backbone_only) {
    head = config.tie_word_embeddings ? &parameters->tied_linear("lm_head", backbone->embedding())
                                      : &parameters->linear("lm_head", config.vocab_size, config.hidden_size);
  }
  parameters->finish();
  return std::make_unique<Model>(config, std::move(parameters), std::move(backbone), head);
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const LoadOptions& options, std::uint64_t seed) {
  RandomWeights source(config, options, seed);
  return build_model(config, source, options.backbone_only);
}

Model::Model(ModelConfig config, std::unique_ptr<Parameters> parameters, std::unique_ptr<Backbone> backbone,
             const Linear* head)
    : config_(std::move(config)), parameters_(std::move(parameters)), backbone_(std::move(backbone)) {
  if (head != nullptr)
    head_.emplace(*head, CausalHead::Options{config_.logit_multiplier, config_.logit_softcap});
}

Model::~Model() = default;

std::vector<std::int32_t> Backbone::positions_of(std::span<const std::int64_t> ids) const {
  std::vector<std::int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

const CausalHead& Model::causal_head() const {
  require<Unsupported>(head_.has_value(), "{}: the model has no output layer: it makes embeddings",
                       config_.model_type);
  return *head_;
}

std::vector<NamedTensor> Model::named_parameters() const {
  std::vector<NamedTensor> result;
  for (auto& [name, tensor] : parameters_->named()) result.push_back({name, tensor});
  // A tied output layer becomes a weight of its own once an adapter is merged into it.
  if (has_head() && config_.tie_word_embeddings && !tied())
    result.push_back({head().path + ".weight", head().weight.dense()});
  return result;
}

std::deque<Linear>& Model::linears() {
  return parameters_->linears();
}

const std::deque<Linear>& Model::linears() const {
  return parameters_->linears();
}

bool Model::tied() const {
  return has_head() && head().weight.same_as(backbone_->embedding());
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
