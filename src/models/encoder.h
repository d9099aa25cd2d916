#pragma once

#include <deque>
#include <span>
#include <string>
#include <vector>

#include <candela/models/backbone.h>
#include <candela/models/config.h>
#include <candela/ops/attention.h>

#include "models/parts.h"
#include "models/positions.h"

/// Encoders of BERT's kin: learned positions, layer norms after each half of a block, biases everywhere, and
/// tokens that see each other both ways.
namespace candela {

/// Names of layers in the checkpoint, below those of a block. The defaults are BERT's.
struct EncoderStyle {
  const char* query = "attention.self.query";
  const char* key = "attention.self.key";
  const char* value = "attention.self.value";
  const char* attention_out = "attention.output.dense";
  const char* attention_norm = "attention.output.LayerNorm";
  /// The row of the position table that the first token has: RoBERTa's begin behind the padding id.
  std::int64_t first_position = 0;
  /// Ids equal to padding have the row of that id and are not counted (RoBERTa).
  bool padding_has_no_position = false;
};

/// x = norm(x + attention(x)), x = norm(x + mlp(x)).
class EncoderBlock {
 public:
  EncoderBlock(Parameters& parameters, const std::string& path, const ModelConfig& config,
               const EncoderStyle& style);
  Tensor forward(const Tensor& x, const AttentionOptions& attention, Generator* dropout,
                 Checkpointing checkpointing) const;

 private:
  Tensor mlp(const Tensor& x, Generator* dropout, Checkpointing checkpointing) const;

  std::int64_t head_dim_;
  Activation activation_;
  Projections qkv_;
  const Linear& attention_out_;
  Norm attention_norm_;
  const Linear& up_;
  const Linear& down_;
  Norm mlp_norm_;
};

class Encoder final : public Backbone {
 public:
  Encoder(const ModelConfig& config, const EncoderStyle& style, Parameters& parameters);

  Tensor forward(const Tensor& ids, const ForwardOptions& options) const override;
  const Tensor& embedding() const override { return words_; }
  std::int64_t max_tokens() const override { return config_.max_position_embeddings - style_.first_position; }
  bool sees_both_ways() const override { return true; }
  std::vector<std::int32_t> positions_of(std::span<const std::int64_t> ids) const override;

 private:
  Tensor embed(const Tensor& ids, const Tensor& positions) const;

  ModelConfig config_;
  EncoderStyle style_;
  const Tensor& words_;            // [V, D]
  const Tensor& positions_;        // [P, D]
  const Tensor* types_ = nullptr;  // [types, D]
  Norm embedding_norm_;
  const Tensor* relative_ = nullptr;  // [buckets, H]
  Tensor distance_bias_;              // f32 [H, 2 M + 1], made of it
  std::deque<EncoderBlock> blocks_;
  PositionRange range_;
};

}  // namespace candela
