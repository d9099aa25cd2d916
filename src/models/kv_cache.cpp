#include <algorithm>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/models/kv_cache.h>
#include <candela/ops/copy.h>

namespace candela {

KvCache::KvCache(const Geometry& geometry, std::int64_t batch, std::int64_t capacity) : geometry_(geometry) {
  require(geometry.layers > 0 && geometry.kv_heads > 0 && geometry.head_dim > 0,
          "kv_cache: layers, kv_heads and head_dim must be positive; got {}, {} and {}", geometry.layers,
          geometry.kv_heads, geometry.head_dim);
  require(batch > 0 && capacity >= 0,
          "kv_cache: batch must be positive and capacity not negative; got {} and {}", batch, capacity);
  lengths_.assign(static_cast<std::size_t>(batch), 0);
  reserve(capacity);
}

std::int64_t KvCache::longest() const {
  return *std::max_element(lengths_.begin(), lengths_.end());
}

void KvCache::reserve(std::int64_t tokens) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31U;  // no position is beyond an i32
  require(tokens >= 0 && tokens <= kMost - longest(),
          "kv_cache: room for {} tokens behind {} was asked for; at most {} in all are possible", tokens,
          longest(), kMost);
  const std::int64_t needed = longest() + tokens;
  if (needed <= capacity_) return;
  // Half as much again keeps the copying linear in the final length.
  const std::int64_t capacity = std::max(needed, capacity_ + capacity_ / 2);
  const NoGrad guard;
  const Shape shape{batch(), capacity, geometry_.kv_heads, geometry_.head_dim};
  const std::int64_t held = longest();
  const auto grow = [&](std::vector<Tensor>& tensors) {
    tensors.resize(static_cast<std::size_t>(geometry_.layers));
    for (Tensor& tensor : tensors) {
      // Zeros, because what lies behind a row's length is multiplied by a weight of zero: it must not be NaN.
      Tensor larger = zeros(shape, geometry_.dtype, geometry_.device);
      if (held > 0) copy_(slice(larger, 1, 0, held), slice(tensor, 1, 0, held));
      tensor = std::move(larger);
    }
  };
  grow(keys_);
  grow(values_);
  capacity_ = capacity;
}

void KvCache::check_append(int layer, const Tensor& k, const Tensor& v) const {
  require(layer >= 0 && layer < geometry_.layers, "kv_cache: layer must be in [0, {}); got {}",
          geometry_.layers, layer);
  const bool fits = k.rank() == 4 && k.size(0) == batch() && k.size(2) == geometry_.kv_heads &&
                    k.size(3) == geometry_.head_dim && v.shape() == k.shape();
  require(fits, "kv_cache: k and v must be [{}, T, {}, {}]; got {} and {}", batch(), geometry_.kv_heads,
          geometry_.head_dim, k.shape(), v.shape());
  require(longest() + k.size(1) <= capacity_,
          "kv_cache: {} tokens held and {} new exceed the capacity {}; call reserve first", longest(),
          k.size(1), capacity_);
}

void KvCache::write(const Tensor& target, const Tensor& x) const {
  const std::int64_t tokens = x.size(1);
  const bool even =
      std::all_of(lengths_.begin(), lengths_.end(), [&](std::int64_t n) { return n == lengths_[0]; });
  if (even) {
    copy_(slice(target, 1, lengths_[0], lengths_[0] + tokens), x);
    return;
  }
  for (std::int64_t b = 0; b < batch(); ++b) {
    const std::int64_t start = lengths_[static_cast<std::size_t>(b)];
    copy_(slice(slice(target, 0, b, b + 1), 1, start, start + tokens), slice(x, 0, b, b + 1));
  }
}

std::pair<Tensor, Tensor> KvCache::append(int layer, const Tensor& k, const Tensor& v) {
  check_append(layer, k, v);
  refuse_grad("kv_cache", {k, v});
  const auto index = static_cast<std::size_t>(layer);
  write(keys_[index], k);
  write(values_[index], v);
  const std::int64_t held = longest() + k.size(1);
  return {slice(keys_[index], 1, 0, held), slice(values_[index], 1, 0, held)};
}

void KvCache::advance(std::span<const std::int64_t> counts) {
  require(counts.size() == lengths_.size(), "kv_cache: advance needs a count for each of {} rows; got {}",
          lengths_.size(), counts.size());
  for (std::size_t b = 0; b < counts.size(); ++b) {
    require(counts[b] >= 0 && lengths_[b] + counts[b] <= capacity_,
            "kv_cache: row {} cannot advance by {} beyond {} of {}", b, counts[b], lengths_[b], capacity_);
    lengths_[b] += counts[b];
  }
}

void KvCache::advance(std::int64_t count) {
  advance(std::vector<std::int64_t>(lengths_.size(), count));
}

void KvCache::truncate(std::int64_t length) {
  require(length >= 0, "kv_cache: truncate needs a length of 0 or more; got {}", length);
  for (std::int64_t& held : lengths_) held = std::min(held, length);
}

void KvCache::join(const KvCache& other) {
  const bool fits = other.geometry_.layers == geometry_.layers &&
                    other.geometry_.kv_heads == geometry_.kv_heads &&
                    other.geometry_.head_dim == geometry_.head_dim &&
                    other.geometry_.dtype == geometry_.dtype && other.geometry_.device == geometry_.device;
  require(fits, "kv_cache: only caches of one model can be joined");
  const NoGrad guard;
  const std::int64_t rows = batch();
  const std::int64_t capacity = std::max(capacity_, other.capacity_);
  const Shape shape{rows + other.batch(), capacity, geometry_.kv_heads, geometry_.head_dim};
  const auto both = [&](std::vector<Tensor>& tensors, const std::vector<Tensor>& more) {
    for (std::size_t layer = 0; layer < tensors.size(); ++layer) {
      Tensor joined = zeros(shape, geometry_.dtype, geometry_.device);
      const auto put = [&](std::int64_t first, const Tensor& from, std::int64_t held) {
        if (held == 0) return;
        const Tensor part = slice(slice(joined, 0, first, first + from.size(0)), 1, 0, held);
        copy_(part, slice(from, 1, 0, held));
      };
      put(0, tensors[layer], longest());
      put(rows, more[layer], other.longest());
      tensors[layer] = std::move(joined);
    }
  };
  both(keys_, other.keys_);
  both(values_, other.values_);
  capacity_ = capacity;
  lengths_.insert(lengths_.end(), other.lengths_.begin(), other.lengths_.end());
}

void KvCache::select_rows(std::span<const std::int64_t> rows) {
  require(!rows.empty(), "kv_cache: select_rows needs at least one row");
  std::vector<std::int64_t> lengths;
  for (const std::int64_t row : rows) {
    require(row >= 0 && row < batch(), "kv_cache: row {} is outside [0, {})", row, batch());
    lengths.push_back(lengths_[static_cast<std::size_t>(row)]);
  }
  const NoGrad guard;
  const std::int64_t held = *std::max_element(lengths.begin(), lengths.end());
  const Shape shape{static_cast<std::int64_t>(rows.size()), capacity_, geometry_.kv_heads,
                    geometry_.head_dim};
  const auto pick = [&](std::vector<Tensor>& tensors) {
    for (Tensor& tensor : tensors) {
      Tensor picked = zeros(shape, geometry_.dtype, geometry_.device);
      for (std::size_t i = 0; i < rows.size() && held > 0; ++i) {
        const auto to = static_cast<std::int64_t>(i);
        copy_(slice(slice(picked, 0, to, to + 1), 1, 0, held),
              slice(slice(tensor, 0, rows[i], rows[i] + 1), 1, 0, held));
      }
      tensor = std::move(picked);
    }
  };
  pick(keys_);
  pick(values_);
  lengths_ = std::move(lengths);
}

}  // namespace candela
