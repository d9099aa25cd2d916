#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <candela/core/tensor.h>

namespace candela {

/// The keys and values of the tokens that a model has seen, so that each new token costs one forward pass of
/// one token. Rows of a batch may have different lengths: row b holds lengths()[b] tokens, and what lies
/// behind is unread. Memory: 2 layers batch capacity kv_heads head_dim elements. For one thread at a time.
class KvCache {
 public:
  struct Geometry {
    int layers = 0;
    std::int64_t kv_heads = 0;
    std::int64_t head_dim = 0;
    DType dtype = DType::F32;
    Device device;
  };

  /// An empty cache for `batch` rows with room for `capacity` tokens each; it grows when more come.
  KvCache(const Geometry& geometry, std::int64_t batch, std::int64_t capacity = 0);

  std::int64_t batch() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t longest() const;
  const std::vector<std::int64_t>& lengths() const { return lengths_; }

  /// Makes room for `tokens` more in every row. Growing copies what is held.
  void reserve(std::int64_t tokens);

  /// Writes k, v [B, T, K, D] of `layer` behind each row's tokens and returns views [B, S, K, D] of all keys
  /// and values, S = longest() + T. Needs reserve(T) before; the lengths change by advance() alone, once all
  /// layers are written.
  std::pair<Tensor, Tensor> append(int layer, const Tensor& k, const Tensor& v);

  /// Adds counts[b] tokens to row b.
  void advance(std::span<const std::int64_t> counts);
  void advance(std::int64_t count);

  /// Forgets all tokens of each row behind the first `length`.
  void truncate(std::int64_t length);

  /// Adds the rows of `other`, of the same geometry, behind these.
  void join(const KvCache& other);

  /// Keeps only these rows, in this order; an index may repeat.
  void select_rows(std::span<const std::int64_t> rows);

 private:
  void check_append(int layer, const Tensor& k, const Tensor& v) const;
  void write(const Tensor& target, const Tensor& x) const;

  Geometry geometry_;
  std::int64_t capacity_ = 0;
  std::vector<std::int64_t> lengths_;
  std::vector<Tensor> keys_;  // per layer [B, capacity, K, D]
  std::vector<Tensor> values_;
};

}  // namespace candela
