#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/models/backbone.h>
#include <candela/models/causal_head.h>
#include <candela/models/config.h>
#include <candela/models/kv_cache.h>
#include <candela/models/linear.h>

namespace candela {

/// A parameter under the name it has in a Hugging Face checkpoint.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

class Parameters;

/// A transformer of one of model_types(): a backbone, and for causal language models a head. Threads: const
/// members may be called on several threads at once, each with a cache and a generator of its own; nothing
/// else may change the layers (their adapters, weights) meanwhile.
class Model {
 public:
  /// The parts of one model, whose weights are `parameters`; `head` is the output layer, or null. Made by
  /// load_model() and make_model().
  Model(ModelConfig config, std::unique_ptr<Parameters> parameters, std::unique_ptr<Backbone> backbone,
        const Linear* head);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model();

  const ModelConfig& config() const { return config_; }
  DType dtype() const { return backbone_->embedding().dtype(); }
  Device device() const { return backbone_->embedding().device(); }

  const Backbone& backbone() const { return *backbone_; }
  bool has_head() const { return head_.has_value(); }
  /// Throws Unsupported for a model without one.
  const CausalHead& causal_head() const;

  /// As Backbone::forward.
  Tensor forward_hidden(const Tensor& ids, const ForwardOptions& options = {}) const {
    return backbone_->forward(ids, options);
  }
  /// As those of causal_head().
  Tensor logits(const Tensor& hidden, Generator* dropout = nullptr) const {
    return causal_head().logits(hidden, dropout);
  }
  Tensor loss(const Tensor& hidden, const Tensor& targets, Generator* dropout = nullptr) const {
    return causal_head().loss(hidden, targets, dropout);
  }

  /// Every weight of the base model, in the order of the network; adapters are not among them. A tied output
  /// layer appears once, as the embedding.
  std::vector<NamedTensor> named_parameters() const;
  /// The linear layers in the order of the network, the output layer last. The references live as long as the
  /// model.
  std::deque<Linear>& linears();
  const std::deque<Linear>& linears() const;
  /// The output layer: the last of linears(). Throws as causal_head().
  const Linear& head() const { return causal_head().layer(); }
  /// Whether `layer` is the output layer.
  bool is_head(const Linear& layer) const { return head_.has_value() && &layer == &head_->layer(); }
  /// Whether the output layer's weight is the embedding's.
  bool tied() const;

  /// An empty cache for this model.
  KvCache make_cache(std::int64_t batch, std::int64_t capacity = 0) const;
  /// Number of elements of all named_parameters().
  std::int64_t parameter_count() const;

 private:
  ModelConfig config_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<Backbone> backbone_;
  std::optional<CausalHead> head_;
};

/// Targets of next-token training: target[b, t] = labels[b, t + 1], and kIgnoreIndex at the end of each row.
/// labels i32 or i64 [B, T]. For packed sequences, the first label of each must be kIgnoreIndex already.
Tensor shift_labels(const Tensor& labels);

struct LoadOptions {
  /// The dtype of weights and activations (f32, bf16 or f16); none: as stored.
  std::optional<DType> dtype{};
  Device device = Device::cpu();
  /// Rounds the rotary frequencies to bf16. PyTorch does that to a model that is cast as a whole after it was
  /// made (`model.to(torch.bfloat16)`, some trainers); transformers' from_pretrained does not, and neither is
  /// it the default here.
  bool bf16_rope_frequencies = false;
  /// Leaves the output layer of a causal language model out: for embeddings.
  bool backbone_only = false;
};

/// A model from a Hugging Face folder (config.json, model.safetensors or its shards). Weights that have the
/// wanted dtype are used where the file is mapped, without a copy, if the device can and layers that share an
/// input lie side by side; others are copied or converted. Throws IoError listing every tensor that is
/// missing, left over or of the wrong shape, and Unsupported for a `model_type` that is not known. On
/// Device::plan() nothing but the headers is read.
std::unique_ptr<Model> load_model(const std::filesystem::path& folder, const LoadOptions& options = {});

/// A model of this geometry with random weights (normal, stddev config.initializer_range; norms 1, biases 0).
std::unique_ptr<Model> make_model(const ModelConfig& config, const LoadOptions& options = {},
                                  std::uint64_t seed = 0);

/// The values of `model_type` that can be loaded, in alphabetical order.
std::vector<std::string> model_types();

}  // namespace candela
