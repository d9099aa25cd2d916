#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <candela/lora/config.h>
#include <candela/models/model.h>

namespace candela {

/// Low-rank adapters (Hu et al., 2021) on a model: y = W x + s B A x with W frozen and A [r, I], B [O, r]
/// trained. The model must outlive it; the adapters and their state live in the model's layers, so a Lora may
/// be copied, moved or dropped freely. One set of adapters per model: views of one f32 tensor. Attaching,
/// loading, enabling, merging and detaching change the model: no other thread may use it meanwhile.
class Lora {
 public:
  /// New adapters in f32, drawn as peft does: A uniform in +-1/sqrt(I), B zero, so that the model's output is
  /// unchanged at first. They require gradients. config() then has its resolved_targets(). Throws
  /// InvalidArgument if a target or a pattern matches no layer, or the model has adapters already.
  static Lora attach(Model& model, const LoraConfig& config, std::uint64_t seed = 0);

  /// The adapters of a peft folder (adapter_config.json, adapter_model.safetensors), as f32. Throws IoError
  /// listing every tensor that is missing, left over or of the wrong shape, or if no layer is left to adapt,
  /// and Unsupported naming a field that is set and not supported. With `trainable` they require gradients.
  static Lora load(Model& model, const std::filesystem::path& folder, bool trainable = false);

  const LoraConfig& config() const { return config_; }
  /// base_model_name_or_path of the folder it was loaded from; mostly a folder or a name on Hugging Face's
  /// hub.
  const std::string& base_model() const { return base_model_; }
  /// What a person should know about the folder it was loaded from, such as keys without the usual prefix or
  /// another base model than this one; mostly empty.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Every A and B under peft's key ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"), in
  /// the order of the network.
  std::vector<NamedTensor> parameters() const;
  std::int64_t parameter_count() const;

  /// While disabled, the model computes as without adapters.
  void set_enabled(bool enabled);
  bool enabled() const;

  /// Replaces W by W + s B A, computed in f32 and rounded to W's dtype. A tied output layer gets a weight of
  /// its own; the embedding keeps its values. Keeps the original weights, so that unmerge() is exact;
  /// `keep_originals` = false frees them. InvalidArgument if merged or disabled, Error if not finite. Layers
  /// are merged one by one: after any other error (no memory), those before it are, the model computes as
  /// before, and a further merge() does the rest.
  void merge(bool keep_originals = true);
  /// Puts the original weights back. Throws InvalidArgument if they are not there.
  void unmerge();
  /// Whether any layer is.
  bool merged() const;

  /// Writes the two files of a peft folder, both whole before the first is put in place. `base_model` is
  /// recorded as base_model_name_or_path: the absolute path of a folder, or a name as it is. Throws Error
  /// naming the first tensor that holds no finite numbers.
  void save(const std::filesystem::path& folder, const std::string& base_model = "") const;

  /// Takes the adapters off the model, which is then as before; unmerges first if need be.
  void detach();

 private:
  Lora(Model& model, LoraConfig config);
  std::vector<Linear*> adapted() const;
  void place(Linear& layer, Tensor a, Tensor b, double scale, bool trainable) const;

  Model* model_;
  LoraConfig config_;
  std::string base_model_;
  std::vector<std::string> notes_;
};

}  // namespace candela
