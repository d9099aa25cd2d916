#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include <candela/models/backbone.h>
#include <candela/models/config.h>
#include <candela/ops/attention.h>

#include "models/parts.h"
#include "models/positions.h"

/// Decoder-only transformers: embedding, a stack of blocks on a residual stream, final norm. What sets an
/// architecture apart is a DecoderStyle, which its file fills in.
namespace candela {

/// Norms of q and k before the rotation.
enum class QkNorm : std::uint8_t {
  None,
  /// of each head
  Head,
  /// of all heads as one row
  Whole,
};

/// Where the norms of a block stand, by their names in the checkpoint; null: none there.
struct BlockNorms {
  const char* attention_in = "input_layernorm";
  const char* attention_out = nullptr;
  const char* mlp_in = "post_attention_layernorm";
  const char* mlp_out = nullptr;
};

/// Names of layers in the checkpoint, each below the one that holds it.
struct DecoderNames {
  const char* embedding = "model.embed_tokens.weight";
  /// null: none
  const char* embedding_norm = nullptr;
  const char* layers = "model.layers.";
  const char* final_norm = "model.norm";
  const char* attention = "self_attn";
  const char* qkv = "qkv_proj";  ///< of packed ones
  const char* o = "o_proj";
  const char* gate_up = "gate_up_proj";  ///< of packed ones
  const char* down = "down_proj";
};

/// The parts of a decoder's blocks. The defaults are Llama's.
struct DecoderStyle {
  NormKind norm = NormKind::Rms;
  DecoderNames names;
  BlockNorms norms;
  /// false: layer 0 has no attention_in
  bool first_attention_norm = true;
  QkNorm qk_norm = QkNorm::None;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  /// q, k and v are one layer, as are gate and up
  bool packed = false;
  /// rounded to the weights' dtype
  double embedding_multiplier = 1;
  /// of what a block adds to the stream
  double residual_multiplier = 1;
  /// whether tokens see those before them only; else windows reach both ways
  bool causal = true;
};

/// What every block of one forward pass is given.
struct Step {
  RopeTable rope, sliding_rope;  // sliding_rope undefined: rope
  /// i32 [T] or [B, T]
  Tensor positions;
  /// but for what each layer sets
  AttentionOptions attention;
  KvCache* cache = nullptr;
  Generator* dropout = nullptr;
  Checkpointing checkpointing = Checkpointing::None;
};

/// Grouped-query attention with rotary positions.
class SelfAttention {
 public:
  SelfAttention(Parameters& parameters, const std::string& path, const ModelConfig& config,
                const DecoderStyle& style, int layer);
  Tensor forward(const Tensor& x, const Step& step) const;

 private:
  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step) const;

  int layer_;
  std::int64_t head_dim_;
  std::int64_t window_;  // 0: none
  bool both_ways_;       // the window
  bool rotates_;
  bool sliding_rope_;
  double scale_;  // 0: 1 / sqrt(head_dim)
  QkNorm qk_norm_;
  Projections qkv_;
  const Linear& o_;
  std::optional<Norm> q_norm_, k_norm_;
};

/// act(x gate^T) (x up^T) down^T (Shazeer, 2020).
class GatedMlp {
 public:
  GatedMlp(Parameters& parameters, const std::string& path, const ModelConfig& config,
           const DecoderStyle& style);
  Tensor forward(const Tensor& x, const Step& step) const;

 private:
  Activation activation_;
  Projections gate_up_;
  const Linear& down_;
};

/// x += out_norm(attention(in_norm(x))), x += out_norm(mlp(in_norm(x))).
class DecoderBlock {
 public:
  DecoderBlock(Parameters& parameters, const std::string& path, const ModelConfig& config,
               const DecoderStyle& style, int layer);
  void forward(ResidualStream& stream, const Step& step) const;

 private:
  /// All of it behind the first norm, whose result is `normed`.
  void behind_norm(ResidualStream& stream, const Tensor& normed, const Step& step) const;

  std::optional<Norm> attention_in_;
  SelfAttention attention_;
  std::optional<Norm> attention_out_, mlp_in_;
  GatedMlp mlp_;
  std::optional<Norm> mlp_out_;
  double residual_multiplier_;
};

class Decoder final : public Backbone {
 public:
  /// Weights are declared in the order of the network.
  Decoder(const ModelConfig& config, const DecoderStyle& style, Parameters& parameters);

  Tensor forward(const Tensor& ids, const ForwardOptions& options) const override;
  const Tensor& embedding() const override { return embedding_; }
  std::int64_t max_tokens() const override { return config_.max_position_embeddings; }
  bool sees_both_ways() const override { return !causal_; }

 private:
  Step prepare(const Tensor& ids, const ForwardOptions& options) const;

  ModelConfig config_;
  bool causal_;
  double embedding_multiplier_;
  const Tensor& embedding_;  // [V, D]
  std::optional<Norm> embedding_norm_;
  std::deque<DecoderBlock> blocks_;
  Norm final_norm_;
  RopeTables ropes_;
  std::optional<RopeTables> sliding_ropes_;
  PositionRange positions_;
};

}  // namespace candela
