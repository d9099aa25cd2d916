#include "models/decoder.h"

#include <algorithm>

#include <candela/autograd/checkpoint.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/rope.h>

namespace candela {
namespace {

std::optional<Norm> norm_at(Parameters& parameters, const char* name, const ModelConfig& config,
                            NormKind kind) {
  if (name == nullptr) return std::nullopt;
  return std::optional<Norm>(std::in_place, parameters, name, config.hidden_size, kind, config.norm_eps);
}

std::optional<Norm> norm_at(Parameters& parameters, const std::string& path, const char* name,
                            const ModelConfig& config, NormKind kind) {
  if (name == nullptr) return std::nullopt;
  return norm_at(parameters, (path + "." + name).c_str(), config, kind);
}

std::optional<Norm> head_norm(Parameters& parameters, const std::string& path, const ModelConfig& config,
                              const DecoderStyle& style, std::int64_t heads) {
  if (style.qk_norm == QkNorm::None) return std::nullopt;
  const std::int64_t width = style.qk_norm == QkNorm::Head ? config.head_dim : heads * config.head_dim;
  return std::optional<Norm>(std::in_place, parameters, path, width, style.norm, config.norm_eps);
}

bool rotates(const ModelConfig& config, int layer) {
  return config.rope_layers.empty() || config.rope_layers.at(static_cast<std::size_t>(layer));
}

/// `value` as a tensor of `dtype` holds it.
double rounded(double value, DType dtype) {
  const auto single = static_cast<float>(value);
  if (dtype == DType::BF16) return static_cast<float>(BFloat16(single));
  if (dtype == DType::F16) return static_cast<float>(Float16(single));
  return single;
}

void check_forward(const ModelConfig& config, const Tensor& ids, const ForwardOptions& options) {
  require(ids.defined() && ids.rank() == 2 && ids.size(0) > 0 && ids.size(1) > 0,
          "{}: ids must be [B, T], not empty; got {}", config.model_type, ids);
  require(options.cache == nullptr || options.cache->batch() == ids.size(0),
          "{}: the cache must have {} rows as ids; got {}", config.model_type, ids.size(0),
          options.cache == nullptr ? 0 : options.cache->batch());
  require(options.cache == nullptr || (!options.positions.defined() && !options.cu_seqlens.defined()),
          "{}: a cache keeps the positions itself; leave out positions and cu_seqlens", config.model_type);
  require(options.row_lengths.empty() || options.cache != nullptr, "{}: row_lengths goes with a cache",
          config.model_type);
  require(!options.cu_seqlens.defined() || options.positions.defined(),
          "{}: packed sequences need the position of each id within its sequence", config.model_type);
}

/// i32 [B, T]: the positions of T ids behind `starts`.
Tensor positions_behind(const std::vector<std::int64_t>& starts, std::int64_t tokens, Device device) {
  std::vector<std::int32_t> positions;
  positions.reserve(starts.size() * static_cast<std::size_t>(tokens));
  for (const std::int64_t start : starts) {
    for (std::int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<std::int32_t>(start + t));
  }
  return Tensor::from_values(positions, {static_cast<std::int64_t>(starts.size()), tokens}, device);
}

}  // namespace

SelfAttention::SelfAttention(Parameters& parameters, const std::string& path, const ModelConfig& config,
                             const DecoderStyle& style, int layer)
    : layer_(layer),
      head_dim_(config.head_dim),
      window_(config.slides(layer) ? config.sliding_window : 0),
      both_ways_(!style.causal),
      rotates_(rotates(config, layer)),
      sliding_rope_(config.slides(layer) && config.sliding_rope.has_value()),
      scale_(config.attention_scale),
      qk_norm_(style.qk_norm),
      qkv_(parameters, path,
           {{"q_proj", config.num_heads * head_dim_},
            {"k_proj", config.num_kv_heads * head_dim_},
            {"v_proj", config.num_kv_heads * head_dim_}},
           config.hidden_size, style.qkv_bias, style.packed ? style.names.qkv : ""),
      o_(parameters.linear(path + "." + style.names.o, config.hidden_size, config.num_heads * head_dim_,
                           style.o_bias)),
      q_norm_(head_norm(parameters, path + ".q_norm", config, style, config.num_heads)),
      k_norm_(head_norm(parameters, path + ".k_norm", config, style, config.num_kv_heads)) {}

Tensor SelfAttention::forward(const Tensor& x, const Step& step) const {
  std::vector<Tensor> qkv = qkv_.forward(x, step.dropout);
  if (qk_norm_ == QkNorm::Whole) {
    qkv[0] = q_norm_->apply(qkv[0]);
    qkv[1] = k_norm_->apply(qkv[1]);
  }
  for (Tensor& part : qkv) part = split_heads(part, head_dim_);
  if (qk_norm_ == QkNorm::Head) {
    qkv[0] = q_norm_->apply(qkv[0]);
    qkv[1] = k_norm_->apply(qkv[1]);
  }
  return apply_linear(join_heads(attend(qkv[0], qkv[1], qkv[2], step)), o_, step.dropout);
}

/// Rotates q [B, T, H, D] and k [B, T, K, D], puts k and v behind the cache's where there is one, and
/// attends: [B, T, H, D].
Tensor SelfAttention::attend(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step) const {
  const RopeTable& table = sliding_rope_ ? step.sliding_rope : step.rope;
  AttentionOptions options = step.attention;
  options.window = window_;
  options.window_after = both_ways_ ? window_ : 0;
  options.scale = scale_;
  if (step.cache == nullptr) {
    return rotates_ ? rotary_attention(q, k, v, table, step.positions, options) : attention(q, k, v, options);
  }
  if (rotates_) {
    rope_(q, table, step.positions);
    rope_(k, table, step.positions);
  }
  const auto [keys, values] = step.cache->append(layer_, k, v);
  return attention(q, keys, values, options);
}

GatedMlp::GatedMlp(Parameters& parameters, const std::string& path, const ModelConfig& config,
                   const DecoderStyle& style)
    : activation_(activation_of(config)),
      gate_up_(parameters, path,
               {{"gate_proj", config.intermediate_size}, {"up_proj", config.intermediate_size}},
               config.hidden_size, style.mlp_bias, style.packed ? style.names.gate_up : ""),
      down_(parameters.linear(path + "." + style.names.down, config.hidden_size, config.intermediate_size,
                              style.mlp_bias)) {}

Tensor GatedMlp::forward(const Tensor& x, const Step& step) const {
  const auto run = [this, dropout = step.dropout](std::span<const Tensor> in) -> std::vector<Tensor> {
    const std::vector<Tensor> gate_up = gate_up_.forward(in[0], dropout);
    return {apply_linear(activate_gated(activation_, gate_up[0], gate_up[1]), down_, dropout)};
  };
  if (step.checkpointing == Checkpointing::Mlp)
    return checkpoint("mlp", run, std::span(&x, 1), step.dropout).front();
  return run(std::span(&x, 1)).front();
}

DecoderBlock::DecoderBlock(Parameters& parameters, const std::string& path, const ModelConfig& config,
                           const DecoderStyle& style, int layer)
    : attention_in_(norm_at(parameters, path,
                            layer > 0 || style.first_attention_norm ? style.norms.attention_in : nullptr,
                            config, style.norm)),
      attention_(parameters, path + "." + style.names.attention, config, style, layer),
      attention_out_(norm_at(parameters, path, style.norms.attention_out, config, style.norm)),
      mlp_in_(norm_at(parameters, path, style.norms.mlp_in, config, style.norm)),
      mlp_(parameters, path + ".mlp", config, style),
      mlp_out_(norm_at(parameters, path, style.norms.mlp_out, config, style.norm)),
      residual_multiplier_(style.residual_multiplier) {}

void DecoderBlock::forward(ResidualStream& stream, const Step& step) const {
  const Tensor normed = stream.normed(attention_in_);
  if (step.checkpointing != Checkpointing::Layer) {
    behind_norm(stream, normed, step);
    return;
  }
  stream.checkpoint(normed, step.dropout,
                    [this, step](ResidualStream& inner, const Tensor& x) { behind_norm(inner, x, step); });
}

void DecoderBlock::behind_norm(ResidualStream& stream, const Tensor& normed, const Step& step) const {
  const auto add = [&](Tensor update, const std::optional<Norm>& norm) {
    if (norm) update = norm->apply(update);
    if (residual_multiplier_ != 1) update = affine(update, residual_multiplier_, 0);
    stream.add(std::move(update));
  };
  add(attention_.forward(normed, step), attention_out_);
  add(mlp_.forward(stream.normed(mlp_in_), step), mlp_out_);
}

namespace {

std::deque<DecoderBlock> make_blocks(const ModelConfig& config, const DecoderStyle& style,
                                     Parameters& parameters) {
  std::deque<DecoderBlock> blocks;
  for (int layer = 0; layer < config.num_layers; ++layer)
    blocks.emplace_back(parameters, style.names.layers + std::to_string(layer), config, style, layer);
  return blocks;
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const DecoderStyle& style, Parameters& parameters)
    : config_(config),
      causal_(style.causal),
      embedding_multiplier_(rounded(style.embedding_multiplier, parameters.dtype())),
      embedding_(parameters.tensor(style.names.embedding, {config.vocab_size, config.hidden_size})),
      embedding_norm_(norm_at(parameters, style.names.embedding_norm, config, style.norm)),
      blocks_(make_blocks(config, style, parameters)),
      final_norm_(parameters, style.names.final_norm, config.hidden_size, style.norm, config.norm_eps),
      ropes_(config.rope, parameters.device(), parameters.bf16_rope_frequencies()),
      positions_(parameters.device()) {
  if (config.sliding_rope)
    sliding_ropes_.emplace(*config.sliding_rope, parameters.device(), parameters.bf16_rope_frequencies());
}

Step Decoder::prepare(const Tensor& ids, const ForwardOptions& options) const {
  const std::int64_t tokens = ids.size(1);
  Step step;
  step.cache = options.cache;
  step.dropout = options.dropout;
  step.checkpointing = options.checkpointing;
  step.attention.causal = causal_;
  step.attention.cu_seqlens = options.cu_seqlens;
  std::int64_t length = tokens;
  if (options.cache == nullptr) {
    step.positions = options.positions.defined() ? options.positions : positions_.get(0, tokens);
    if (options.positions.defined() && options.longest > 0) length = options.longest;
  } else {
    require<Unsupported>(causal_, "{}: tokens see those after them, so that no cache can serve it",
                         config_.model_type);
    options.cache->reserve(tokens);
    length = options.cache->longest() + tokens;
    const std::vector<std::int64_t>& starts = options.cache->lengths();
    // Rows of one length stand at the end of the keys alike.
    if (std::all_of(starts.begin(), starts.end(), [&](std::int64_t start) { return start == starts[0]; })) {
      step.positions = positions_.get(starts[0], tokens);
    } else {
      step.positions = positions_behind(starts, tokens, ids.device());
      const std::vector<std::int32_t> q_start(starts.begin(), starts.end());
      step.attention.q_start = Tensor::from_values(q_start, {ids.size(0)}, ids.device());
    }
  }
  step.rope = ropes_.get(length);
  if (sliding_ropes_) step.sliding_rope = sliding_ropes_->get(length);
  return step;
}

Tensor Decoder::forward(const Tensor& ids, const ForwardOptions& options) const {
  check_forward(config_, ids, options);
  const KeepResults keep(options.checkpointing == Checkpointing::Keep);
  const Step step = prepare(ids, options);
  Tensor embedded = candela::embedding(embedding_, ids);
  if (embedding_multiplier_ != 1) embedded = affine(embedded, embedding_multiplier_, 0);
  if (embedding_norm_) embedded = embedding_norm_->apply(embedded);
  ResidualStream stream(std::move(embedded));
  for (const DecoderBlock& block : blocks_) {
    if (options.hidden_states != nullptr) options.hidden_states->push_back(stream.value());
    block.forward(stream, step);
  }
  Tensor hidden = stream.normed(final_norm_);
  if (options.hidden_states != nullptr) options.hidden_states->push_back(hidden);
  if (options.cache != nullptr) {
    if (options.row_lengths.empty()) {
      options.cache->advance(ids.size(1));
    } else {
      options.cache->advance(options.row_lengths);
    }
  }
  return hidden;
}

}  // namespace candela
