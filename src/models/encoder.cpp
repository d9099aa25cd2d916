#include "models/encoder.h"

#include <algorithm>
#include <cmath>

#include <candela/autograd/checkpoint.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>

namespace candela {
namespace {

constexpr NormKind kNorm = NormKind::Layer;

void check_forward(const ModelConfig& config, std::int64_t first, const Tensor& ids,
                   const ForwardOptions& options) {
  require(ids.defined() && ids.rank() == 2 && ids.size(0) > 0 && ids.size(1) > 0,
          "{}: ids must be [B, T], not empty; got {}", config.model_type, ids);
  require<Unsupported>(options.cache == nullptr,
                       "{}: tokens see those after them, so that no cache can serve it", config.model_type);
  require(!options.cu_seqlens.defined() || options.positions.defined(),
          "{}: packed sequences need the position of each id within its sequence", config.model_type);
  // Of packed sequences each may be as long as the table; the lookup checks their positions.
  const std::int64_t room = config.max_position_embeddings - first;
  require(options.positions.defined() || ids.size(1) <= room,
          "{}: at most {} tokens have a position; got {}; truncate the text", config.model_type, room,
          ids.size(1));
}

/// The bucket of a key `distance` behind the query (T5, Raffel et al., 2019): half of the buckets for each
/// direction; of these, half for single distances, half for ranges that grow up to kMaxDistance.
constexpr std::int64_t kMaxDistance = 128;

std::int64_t bucket_of(std::int64_t distance, std::int64_t buckets) {
  const std::int64_t half = buckets / 2;
  const std::int64_t exact = half / 2;
  const std::int64_t first = distance > 0 ? half : 0;
  const std::int64_t away = std::abs(distance);
  if (away < exact) return first + away;
  const float share =
      std::log(static_cast<float>(away) / static_cast<float>(exact)) /
      static_cast<float>(std::log(static_cast<double>(kMaxDistance) / static_cast<double>(exact)));
  const auto step = static_cast<std::int64_t>(share * static_cast<float>(half - exact));
  return first + std::min(exact + step, half - 1);
}

/// f32 [H, 2 kMaxDistance + 1] for AttentionOptions::distance_bias, of a table [buckets, H].
Tensor bias_by_distance(const Tensor& table) {
  const NoGrad guard;
  const std::int64_t reach = kMaxDistance;
  std::vector<std::int32_t> ids;
  for (std::int64_t d = -reach; d <= reach; ++d)
    ids.push_back(static_cast<std::int32_t>(bucket_of(d, table.size(0))));
  const Tensor at = Tensor::from_values(ids, {static_cast<std::int64_t>(ids.size())}, table.device());
  return contiguous(transpose(cast(candela::embedding(table, at), DType::F32), 0, 1));
}

}  // namespace

EncoderBlock::EncoderBlock(Parameters& parameters, const std::string& path, const ModelConfig& config,
                           const EncoderStyle& style)
    : head_dim_(config.head_dim),
      activation_(activation_of(config)),
      qkv_(parameters, path,
           {{style.query, config.hidden_size},
            {style.key, config.hidden_size},
            {style.value, config.hidden_size}},
           config.hidden_size, true),
      attention_out_(
          parameters.linear(path + "." + style.attention_out, config.hidden_size, config.hidden_size, true)),
      attention_norm_(parameters, path + "." + style.attention_norm, config.hidden_size, kNorm,
                      config.norm_eps),
      up_(parameters.linear(path + ".intermediate.dense", config.intermediate_size, config.hidden_size,
                            true)),
      down_(parameters.linear(path + ".output.dense", config.hidden_size, config.intermediate_size, true)),
      mlp_norm_(parameters, path + ".output.LayerNorm", config.hidden_size, kNorm, config.norm_eps) {}

Tensor EncoderBlock::mlp(const Tensor& x, Generator* dropout, Checkpointing checkpointing) const {
  const auto run = [this, dropout](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {apply_linear(activate(activation_, apply_linear(in[0], up_, dropout)), down_, dropout)};
  };
  // A view, so that x receives the gradient of the whole half at once: the same bits at every level.
  const Tensor seen = reshape(x, {-1, x.size(-1)});
  const Tensor made = checkpointing == Checkpointing::Mlp
                          ? checkpoint("mlp", run, std::span(&seen, 1), dropout).front()
                          : run(std::span(&seen, 1)).front();
  return reshape(made, x.shape());
}

Tensor EncoderBlock::forward(const Tensor& x, const AttentionOptions& options, Generator* dropout,
                             Checkpointing checkpointing) const {
  if (checkpointing == Checkpointing::Layer) {
    const auto run = [this, options, dropout](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {forward(in[0], options, dropout, Checkpointing::None)};
    };
    return checkpoint("layer", run, std::span(&x, 1), dropout).front();
  }
  std::vector<Tensor> qkv = qkv_.forward(x, dropout);
  for (Tensor& part : qkv) part = split_heads(part, head_dim_);
  const Tensor mixed = join_heads(attention(qkv[0], qkv[1], qkv[2], options));
  const Tensor middle = attention_norm_.add(apply_linear(mixed, attention_out_, dropout), x).second;
  return mlp_norm_.add(mlp(middle, dropout, checkpointing), middle).second;
}

Encoder::Encoder(const ModelConfig& config, const EncoderStyle& style, Parameters& parameters)
    : config_(config),
      style_(style),
      words_(parameters.tensor("embeddings.word_embeddings.weight", {config.vocab_size, config.hidden_size})),
      positions_(parameters.tensor("embeddings.position_embeddings.weight",
                                   {config.max_position_embeddings, config.hidden_size})),
      types_(config.type_vocab_size == 0 ? nullptr
                                         : &parameters.tensor("embeddings.token_type_embeddings.weight",
                                                              {config.type_vocab_size, config.hidden_size})),
      embedding_norm_(parameters, "embeddings.LayerNorm", config.hidden_size, kNorm, config.norm_eps),
      relative_(config.relative_buckets == 0
                    ? nullptr
                    : &parameters.tensor("encoder.relative_attention_bias.weight",
                                         {config.relative_buckets, config.num_heads})),
      range_(parameters.device()) {
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    blocks_.emplace_back(parameters, "encoder.layer." + std::to_string(layer), config, style);
  if (relative_ != nullptr) distance_bias_ = bias_by_distance(*relative_);
}

std::vector<std::int32_t> Encoder::positions_of(std::span<const std::int64_t> ids) const {
  std::vector<std::int32_t> result;
  result.reserve(ids.size());
  auto next = static_cast<std::int32_t>(style_.first_position);
  for (const std::int64_t id : ids) {
    const bool padding = style_.padding_has_no_position && config_.pad_token_id == id;
    result.push_back(padding ? static_cast<std::int32_t>(id) : next++);
  }
  return result;
}

Tensor Encoder::embed(const Tensor& ids, const Tensor& positions) const {
  const Tensor at = candela::embedding(positions_, positions);  // [T, D] or [B, T, D]
  Tensor x = add(candela::embedding(words_, ids), at);
  if (types_ != nullptr) x = add(x, slice(*types_, 0, 0, 1));  // every token is of the first text
  return embedding_norm_.apply(x);
}

Tensor Encoder::forward(const Tensor& ids, const ForwardOptions& options) const {
  check_forward(config_, style_.first_position, ids, options);
  const Tensor positions =
      options.positions.defined() ? options.positions : range_.get(style_.first_position, ids.size(1));
  AttentionOptions attention;
  attention.causal = false;
  attention.cu_seqlens = options.cu_seqlens;
  attention.distance_bias = distance_bias_;
  Tensor x = embed(ids, positions);
  for (const EncoderBlock& block : blocks_) {
    if (options.hidden_states != nullptr) options.hidden_states->push_back(x);
    x = block.forward(x, attention, options.dropout, options.checkpointing);
  }
  if (options.hidden_states != nullptr) options.hidden_states->push_back(x);
  return x;
}

}  // namespace candela
