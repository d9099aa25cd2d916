#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/io/config.h>
#include <candela/models/kv_cache.h>
#include <candela/models/linear.h>

/// Causal language models: one class per `model_type` of config.json behind one interface.
namespace candela {

/// A parameter under the name it has in a Hugging Face checkpoint.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// What a forward pass may need beside the ids.
struct ForwardOptions {
  /// Keys and values of the tokens before `ids`, row by row; those of `ids` are added. Without gradients
  /// only.
  KvCache* cache = nullptr;
  /// With a cache: how many ids of each row count; what follows is padding, whose results mean nothing.
  /// Empty: all of them.
  std::vector<std::int64_t> row_lengths;
  /// i32 [T] or [B, T], each in [0, T): the position of each id within its own sequence. Undefined: 0, 1,
  /// ..., or behind the cache.
  Tensor positions;
  /// i32 [N + 1]: with B = 1, sequences packed along T, which do not see each other. Goes with `positions`.
  Tensor cu_seqlens;
  /// Draws the dropout masks of the adapters; null: no dropout.
  Generator* dropout = nullptr;
  /// Receives [B, T, D] after the embedding, after each block but the last, and after the final norm.
  std::vector<Tensor>* hidden_states = nullptr;
};

class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual DType dtype() const = 0;
  virtual Device device() const = 0;

  /// ids i32 or i64 [B, T] -> hidden states [B, T, D] after the final norm, in the weights' dtype. Throws
  /// InvalidArgument if ids do not fit the options.
  virtual Tensor forward_hidden(const Tensor& ids, const ForwardOptions& options = {}) = 0;
  /// hidden [..., D] -> logits [..., V] in the weights' dtype.
  virtual Tensor logits(const Tensor& hidden, Generator* dropout = nullptr) const = 0;
  /// The sum, f32 [1], over hidden's rows [..., D] of the cross entropy against targets (i32 or i64 [...]:
  /// the id that should come next, or kIgnoreIndex). Divide by the number of targets that count for the mean.
  /// The logits never exist as a whole.
  virtual Tensor loss(const Tensor& hidden, const Tensor& targets, Generator* dropout = nullptr) const = 0;

  /// Every weight of the base model, in the order of the network; adapters are not among them. A tied output
  /// layer appears once, as the embedding.
  virtual std::vector<NamedTensor> named_parameters() const = 0;
  /// The linear layers in the order of the network, the output layer last. The references live as long as the
  /// model.
  virtual std::deque<Linear>& linears() = 0;
  virtual const std::deque<Linear>& linears() const = 0;
  /// The output layer: the last of linears().
  virtual const Linear& head() const = 0;
  /// Whether the output layer's weight is the embedding's.
  virtual bool tied() const = 0;

  /// An empty cache for this model.
  KvCache make_cache(std::int64_t batch, std::int64_t capacity = 0) const;
  /// Number of elements of all named_parameters().
  std::int64_t parameter_count() const;
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
};

/// A model from a Hugging Face folder (config.json, model.safetensors or its shards). Weights that have the
/// wanted dtype are used where the file is mapped, without a copy, if the device can; others are converted.
/// Throws IoError listing every tensor that is missing, left over or of the wrong shape, and Unsupported for
/// a `model_type` that is not known. On Device::plan() nothing but the headers is read.
std::unique_ptr<Model> load_model(const std::filesystem::path& folder, const LoadOptions& options = {});

/// A model of this geometry with random weights (normal, stddev config.initializer_range; norms 1, biases 0).
std::unique_ptr<Model> make_model(const ModelConfig& config, const LoadOptions& options = {},
                                  std::uint64_t seed = 0);

/// The values of `model_type` that can be loaded, in alphabetical order.
std::vector<std::string> model_types();

}  // namespace candela
