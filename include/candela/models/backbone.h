#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/models/kv_cache.h>

namespace candela {

/// What a pass that will be walked back computes twice instead of keeping it. Norms and gated activations are
/// computed again at every level but Keep.
enum class Checkpointing : std::uint8_t {
  /// nothing: the most memory and the least time
  Keep,
  None,
  /// the gate and up projections of each block
  Mlp,
  /// each block behind its first norm
  Layer,
};
/// "keep", "none", "mlp", "layer"; throws InvalidArgument for others.
Checkpointing parse_checkpointing(std::string_view name);
std::string_view to_string(Checkpointing level);

/// What a forward pass may need beside the ids.
struct ForwardOptions {
  /// Keys and values of the tokens before `ids`, row by row; those of `ids` are added. Without gradients
  /// only.
  KvCache* cache = nullptr;
  /// With a cache: how many ids of each row count; what follows is padding, whose results mean nothing.
  /// Empty: all of them.
  std::vector<std::int64_t> row_lengths;
  /// i32 [T] or [B, T]: the position of each id within its own sequence, as Backbone::positions_of gives it,
  /// each in [0, T) for rotary positions. Undefined: those of whole rows, or behind the cache.
  Tensor positions;
  /// i32 [N + 1]: with B = 1, sequences packed along T, which do not see each other. Goes with `positions`.
  Tensor cu_seqlens;
  /// With `positions`: the highest of them + 1, known to the host, so that rotary angles which depend on the
  /// length (`dynamic`) are those of the longest sequence; 0: T.
  std::int64_t longest = 0;
  /// Draws the dropout masks of the adapters; null: no dropout.
  Generator* dropout = nullptr;
  /// Results and gradients have the same bits at each level.
  Checkpointing checkpointing = Checkpointing::None;
  /// Receives [B, T, D] after the embedding, after each block but the last, and after the final norm.
  std::vector<Tensor>* hidden_states = nullptr;
};

/// A stack of layers that makes hidden states of ids; what is made of those is a head's business. forward()
/// may run on several threads at once, each with options of its own.
class Backbone {
 public:
  Backbone() = default;
  Backbone(const Backbone&) = delete;
  Backbone& operator=(const Backbone&) = delete;
  virtual ~Backbone() = default;

  /// ids i32 or i64 [B, T] -> hidden states [B, T, D] after the final norm, in the weights' dtype. Throws
  /// InvalidArgument if ids do not fit the options, Unsupported for a cache where tokens see those after
  /// them.
  virtual Tensor forward(const Tensor& ids, const ForwardOptions& options) const = 0;
  /// ForwardOptions::positions of one sequence of these ids: 0, 1, ..., but where an architecture counts from
  /// elsewhere or passes over padding.
  virtual std::vector<std::int32_t> positions_of(std::span<const std::int64_t> ids) const;
  /// The longest sequence that has positions.
  virtual std::int64_t max_tokens() const = 0;
  /// Whether tokens see those after them.
  virtual bool sees_both_ways() const = 0;
  /// The embedding of ids, [V, D].
  virtual const Tensor& embedding() const = 0;
};

}  // namespace candela
