#pragma once

#include <memory>
#include <string>
#include <vector>

#include <candela/models/model.h>
#include <candela/ops/attention.h>
#include <candela/ops/rope.h>

#include "models/parameters.h"

/// What decoder-only transformers share: embedding, a stack of blocks on a residual stream, final norm,
/// output layer.
namespace candela {

/// What every block of one forward pass is given.
struct Step {
  RopeTable rope;
  Tensor positions;            ///< i32 [T] or [B, T]
  AttentionOptions attention;  ///< but for the window, which is each layer's own
  KvCache* cache = nullptr;
  Generator* dropout = nullptr;
};

/// The residual stream of a pre-norm transformer. Updates are added where the next norm reads the stream, so
/// that both are one fused op.
class ResidualStream {
 public:
  explicit ResidualStream(Tensor x) : x_(std::move(x)) {}

  /// The RMS norm of the stream.
  Tensor normed(const Tensor& weight, double eps);
  /// To be called once between two norms.
  void add(Tensor update) { update_ = std::move(update); }
  /// The stream as it stands, [B, T, D].
  Tensor value() const;

 private:
  Tensor x_;
  Tensor update_;  // not yet added
};

class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  virtual ~Block() = default;

  virtual void forward(ResidualStream& stream, const Step& step) const = 0;
};

/// silu(x gate^T) (x up^T) down^T (Shazeer, 2020).
class GatedMlp {
 public:
  GatedMlp(Parameters& parameters, const std::string& path, const ModelConfig& config, bool bias = false);
  Tensor forward(const Tensor& x, const Step& step) const;

 private:
  const LinearGroup& gate_up_;
  const Linear& down_;
};

/// x += attention(norm(x)), x += mlp(norm(x)): the block of Llama and its kin. `Attention` is made from the
/// parameters, the path of its weights, the configuration and the layer's number.
template <class Attention>
class PreNormBlock final : public Block {
 public:
  PreNormBlock(Parameters& parameters, const std::string& path, const ModelConfig& config, int layer)
      : eps_(config.rms_norm_eps),
        input_norm_(parameters.tensor(path + ".input_layernorm.weight", {config.hidden_size})),
        attention_(parameters, path + ".self_attn", config, layer),
        post_norm_(parameters.tensor(path + ".post_attention_layernorm.weight", {config.hidden_size})),
        mlp_(parameters, path + ".mlp", config, config.mlp_bias) {}

  void forward(ResidualStream& stream, const Step& step) const override {
    stream.add(attention_.forward(stream.normed(input_norm_, eps_), step));
    stream.add(mlp_.forward(stream.normed(post_norm_, eps_), step));
  }

 private:
  double eps_;
  const Tensor& input_norm_;
  Attention attention_;
  const Tensor& post_norm_;
  GatedMlp mlp_;
};

/// Rotates q [B, T, H, D] and k [B, T, K, D], puts k and v behind the cache's where there is one, and
/// attends: [B, T, H D]. window: as in AttentionOptions.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, int layer,
              std::int64_t window);

/// How many positions back the tokens of a layer see, as AttentionOptions::window: 0 for all.
std::int64_t layer_window(const ModelConfig& config, int layer);

/// The last dimension of x split into heads: [B, T, H D] -> [B, T, H, D].
Tensor split_heads(const Tensor& x, std::int64_t head_dim);

class Decoder : public Model {
 public:
  const ModelConfig& config() const override { return config_; }
  DType dtype() const override { return embedding_.dtype(); }
  Device device() const override { return embedding_.device(); }
  Tensor forward_hidden(const Tensor& ids, const ForwardOptions& options) override;
  Tensor logits(const Tensor& hidden, Generator* dropout) const override;
  Tensor loss(const Tensor& hidden, const Tensor& targets, Generator* dropout) const override;
  std::vector<NamedTensor> named_parameters() const override;
  std::deque<Linear>& linears() override { return parameters_.linears(); }
  const std::deque<Linear>& linears() const override { return parameters_.linears(); }
  const Linear& head() const override { return *head_; }
  bool tied() const override { return head_->weight.dense().same_as(embedding_); }

 protected:
  /// The embedding; the derived class then adds its blocks, and calls finish().
  Decoder(ModelConfig config, WeightSource& source);
  /// The final norm and the output layer; checks that every weight was found.
  void finish();

  ModelConfig config_;
  Parameters parameters_;
  std::vector<std::unique_ptr<Block>> blocks_;

 private:
  Step prepare(const Tensor& ids, const ForwardOptions& options);
  const RopeTable& rope(std::int64_t length);

  bool bf16_rope_frequencies_;
  const Tensor& embedding_;  // [V, D]
  const Tensor* final_norm_ = nullptr;
  const Linear* head_ = nullptr;
  RopeTable rope_;
  std::int64_t rope_length_ = 0;
};

/// A decoder whose layers are all `Layer`s, made as PreNormBlock is.
template <class Layer>
class DecoderOf final : public Decoder {
 public:
  DecoderOf(const ModelConfig& config, WeightSource& source) : Decoder(config, source) {
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      blocks_.push_back(
          std::make_unique<Layer>(parameters_, "model.layers." + std::to_string(layer), config_, layer));
    }
    finish();
  }
};

}  // namespace candela
