#include "models/decoder.h"

#include <algorithm>
#include <bit>
#include <tuple>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/random.h>

namespace candela {

Tensor ResidualStream::normed(const Tensor& weight, double eps) {
  if (!update_.defined()) return rms_norm(x_, weight, eps);
  auto [sum, result] = add_rms_norm(update_, x_, weight, eps);
  x_ = std::move(sum);
  update_ = Tensor();
  return result;
}

Tensor ResidualStream::value() const {
  return update_.defined() ? candela::add(update_, x_) : x_;
}

GatedMlp::GatedMlp(Parameters& parameters, const std::string& path, const ModelConfig& config, bool bias)
    : gate_up_(parameters.group(
          {{path + ".gate_proj", config.intermediate_size}, {path + ".up_proj", config.intermediate_size}},
          config.hidden_size, bias)),
      down_(parameters.linear(path + ".down_proj", config.hidden_size, config.intermediate_size, bias)) {}

Tensor GatedMlp::forward(const Tensor& x, const Step& step) const {
  const std::vector<Tensor> gate_up = gate_up_.forward(x, step.dropout);
  return apply_linear(Prologue::swiglu(gate_up[0], gate_up[1]), down_, step.dropout);
}

Tensor split_heads(const Tensor& x, std::int64_t head_dim) {
  return reshape(x, {x.size(0), x.size(1), x.size(2) / head_dim, head_dim});
}

std::int64_t layer_window(const ModelConfig& config, int layer) {
  const bool slides = config.use_sliding_window &&
                      config.layer_types.at(static_cast<std::size_t>(layer)) == "sliding_attention";
  return slides ? config.sliding_window : 0;
}

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, int layer,
              std::int64_t window) {
  AttentionOptions options = step.attention;
  options.window = window;
  Tensor out;
  if (step.cache == nullptr) {
    out = rotary_attention(q, k, v, step.rope, step.positions, options);
  } else {
    rope_(q, step.rope, step.positions);
    rope_(k, step.rope, step.positions);
    const auto [keys, values] = step.cache->append(layer, k, v);
    out = attention(q, keys, values, options);
  }
  return reshape(out, {out.size(0), out.size(1), out.size(2) * out.size(3)});
}

Decoder::Decoder(ModelConfig config, WeightSource& source)
    : config_(std::move(config)),
      parameters_(source),
      bf16_rope_frequencies_(source.bf16_rope_frequencies()),
      embedding_(parameters_.tensor("model.embed_tokens.weight", {config_.vocab_size, config_.hidden_size})) {
  require<Unsupported>(config_.hidden_act == "silu", "{}: hidden_act must be silu; got {}",
                       config_.model_type, config_.hidden_act);
}

void Decoder::finish() {
  final_norm_ = &parameters_.tensor("model.norm.weight", {config_.hidden_size});
  head_ = config_.tie_word_embeddings
              ? &parameters_.tied_linear("lm_head", embedding_)
              : &parameters_.linear("lm_head", config_.vocab_size, config_.hidden_size);
  parameters_.finish();
}

namespace {

/// i32 [B, T] (or [T] where all rows start alike): the positions of T ids behind `starts`.
Tensor positions_behind(const std::vector<std::int64_t>& starts, std::int64_t tokens, Device device) {
  const bool even =
      std::all_of(starts.begin(), starts.end(), [&](std::int64_t start) { return start == starts[0]; });
  const std::size_t rows = even ? 1 : starts.size();
  std::vector<std::int32_t> positions;
  positions.reserve(rows * static_cast<std::size_t>(tokens));
  for (std::size_t b = 0; b < rows; ++b) {
    for (std::int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<std::int32_t>(starts[b] + t));
  }
  const Shape shape = even ? Shape{tokens} : Shape{static_cast<std::int64_t>(rows), tokens};
  return Tensor::from_values(positions, shape, device);
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

}  // namespace

const RopeTable& Decoder::rope(std::int64_t length) {
  const RopeConfig& config = config_.rope;
  const std::int64_t trained = config.max_positions;
  // The angles of `dynamic` depend on the length once it is beyond max_position_embeddings: each length has
  // its own table there. Otherwise tables are made for powers of two, so that decoding does not need a new
  // one per token.
  const bool own_table = config.type == "dynamic" && length > trained;
  const bool reusable = own_table
                            ? rope_length_ == length
                            : rope_length_ >= length && (config.type != "dynamic" || rope_length_ <= trained);
  if (!reusable) {
    std::int64_t made =
        own_table ? length : static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(length)));
    if (!own_table && config.type == "dynamic") made = std::min(made, trained);
    rope_ = rope_table(config, made, device(), bf16_rope_frequencies_);
    rope_length_ = made;
  }
  return rope_;
}

Step Decoder::prepare(const Tensor& ids, const ForwardOptions& options) {
  const std::int64_t tokens = ids.size(1);
  Step step;
  step.cache = options.cache;
  step.dropout = options.dropout;
  step.attention.cu_seqlens = options.cu_seqlens;
  if (options.cache == nullptr) {
    step.positions = options.positions.defined() ? options.positions : arange(tokens, DType::I32, device());
    step.rope = rope(tokens);
    return step;
  }
  options.cache->reserve(tokens);
  const std::vector<std::int64_t>& starts = options.cache->lengths();
  step.positions = positions_behind(starts, tokens, device());
  step.rope = rope(options.cache->longest() + tokens);
  if (step.positions.rank() ==
      2) {  // rows of different lengths; otherwise all queries stand at the end of the keys
    const std::vector<std::int32_t> q_start(starts.begin(), starts.end());
    step.attention.q_start = Tensor::from_values(q_start, {ids.size(0)}, device());
  }
  return step;
}

Tensor Decoder::forward_hidden(const Tensor& ids, const ForwardOptions& options) {
  check_forward(config_, ids, options);
  const Step step = prepare(ids, options);
  ResidualStream stream(embedding(embedding_, ids));
  for (const std::unique_ptr<Block>& block : blocks_) {
    if (options.hidden_states != nullptr) options.hidden_states->push_back(stream.value());
    block->forward(stream, step);
  }
  Tensor hidden = stream.normed(*final_norm_, config_.rms_norm_eps);
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

Tensor Decoder::logits(const Tensor& hidden, Generator* dropout) const {
  return apply_linear(hidden, *head_, dropout);
}

namespace {

/// What is lost when x is rounded to `dtype`, rounded in turn; a constant to autograd.
Tensor remainder(const Tensor& x, DType dtype) {
  const NoGrad guard;
  const Tensor whole = x.detach();
  return cast(sub(whole, cast(cast(whole, dtype), whole.dtype())), dtype);
}

/// An adapted output layer is a wider one, [h, l] [W, B]^T = h W^T + l B^T with l = s d(h) A^T, so that the
/// chunked loss serves it too: l [N, r] and B [V, r] as columns in `dtype`. Where the adapters are wider than
/// the weights, each is split into its rounded value and the remainder, l = l' + l", B = B' + B": l B^T = l'
/// B'^T + l" B'^T + l' B"^T, but for the product of the remainders. The gradients of l and B through the
/// rounded values alone are those of the whole.
std::pair<Tensor, Tensor> low_rank_columns(const Tensor& low, const Tensor& b, DType dtype) {
  if (low.dtype() == dtype) return {low, b};
  const Tensor rounded_low = cast(low, dtype);
  const Tensor rounded_b = cast(b, dtype);
  return {concat({rounded_low, remainder(low, dtype), rounded_low}, 1),
          concat({rounded_b, rounded_b, remainder(b, dtype)}, 1)};
}

}  // namespace

Tensor Decoder::loss(const Tensor& hidden, const Tensor& targets, Generator* dropout) const {
  const std::int64_t width = config_.hidden_size;
  require(hidden.defined() && hidden.rank() >= 1 && hidden.size(-1) == width,
          "{}: hidden must be [..., {}]; got {}", config_.model_type, width, hidden);
  const Tensor rows = reshape(hidden, {-1, width});
  const Tensor flat = reshape(targets, {targets.numel()});
  if (!head_->adapted()) return linear_cross_entropy(rows, head_->weight.dense(), flat);
  const LoraAdapter& adapter = head_->adapter;
  const Tensor seen =
      dropout != nullptr && adapter.dropout > 0 ? candela::dropout(rows, adapter.dropout, *dropout) : rows;
  const Tensor low = affine(linear(cast(seen, adapter.a.dtype()), adapter.a), adapter.scale, 0);
  const auto [columns, weights] = low_rank_columns(low, adapter.b, rows.dtype());
  return linear_cross_entropy(concat({rows, columns}, 1), concat({head_->weight.dense(), weights}, 1), flat);
}

std::vector<NamedTensor> Decoder::named_parameters() const {
  std::vector<NamedTensor> result = parameters_.named();
  // A tied output layer becomes a weight of its own once an adapter is merged into it.
  if (config_.tie_word_embeddings && !tied()) result.push_back({"lm_head.weight", head_->weight.dense()});
  return result;
}

}  // namespace candela
