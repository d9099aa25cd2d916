#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include <candela/core/error.h>
#include <candela/ops/loss.h>
#include <candela/train/batch.h>
#include <candela/train/packing.h>

namespace candela {
namespace {

/// How many batches are sorted by length together: enough to make lengths alike, few enough to keep the order
/// random.
constexpr std::size_t kWindowBatches = 32;

template <class T>
void shuffle(std::vector<T>& values, Generator& generator) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[generator.next_below(i)]);
}

std::vector<std::vector<std::size_t>> cut(std::span<const std::size_t> order, std::size_t batch_size) {
  std::vector<std::vector<std::size_t>> batches;
  for (std::size_t at = 0; at < order.size(); at += batch_size) {
    const auto piece = order.subspan(at, std::min(batch_size, order.size() - at));
    batches.emplace_back(piece.begin(), piece.end());
  }
  return batches;
}

/// Tokens of a row that predict one, at least 1: all but the last.
std::size_t inputs_of(std::span<const Sample> samples, std::size_t row) {
  require(row < samples.size(), "batch: row {} is not there; the samples are {}", row, samples.size());
  const Sample& sample = samples[row];
  require(sample.ids.size() >= 2, "batch: row {} has {} tokens; at least 2 are needed to predict one", row,
          sample.ids.size());
  require(sample.trained.size() == sample.ids.size(),
          "batch: row {} must have a mark for each of its {} tokens; got {} marks", row, sample.ids.size(),
          sample.trained.size());
  return sample.ids.size() - 1;
}

}  // namespace

namespace {

/// Writes a row from position `at` on, and what it predicts.
void put_row(const Sample& sample, std::size_t at, HostBatch& batch) {
  const std::size_t inputs = sample.ids.size() - 1;
  batch.tokens += static_cast<std::int64_t>(inputs);
  for (std::size_t t = 0; t < inputs; ++t) {
    batch.ids[at + t] = sample.ids[t];
    if (!sample.trained[t + 1]) continue;
    batch.targets.push_back(sample.ids[t + 1]);
    batch.positions.push_back(static_cast<std::int32_t>(at + t));
  }
}

}  // namespace

HostBatch make_host_batch(std::span<const Sample> samples, std::span<const std::size_t> rows,
                          std::int32_t pad_id) {
  require(!rows.empty(), "batch: needs at least one row");
  std::size_t longest = 0;
  for (const std::size_t row : rows) longest = std::max(longest, inputs_of(samples, row));
  HostBatch batch;
  batch.rows = static_cast<std::int64_t>(rows.size());
  batch.length = static_cast<std::int64_t>(longest);
  batch.ids.assign(rows.size() * longest, pad_id);
  for (std::size_t b = 0; b < rows.size(); ++b) put_row(samples[rows[b]], b * longest, batch);
  return batch;
}

std::size_t packed_length(std::size_t tokens) {
  constexpr std::size_t kMostMultiple = 64;
  const std::size_t multiple = std::bit_floor(std::clamp<std::size_t>(tokens / 64, 1, kMostMultiple));
  return (tokens + multiple - 1) / multiple * multiple;
}

HostBatch make_packed_batch(std::span<const Sample> samples, std::span<const std::size_t> rows,
                            std::int32_t pad_id) {
  require(!rows.empty(), "batch: needs at least one row");
  constexpr std::size_t kMostTokens = std::numeric_limits<std::int32_t>::max() - 64;
  HostBatch batch;
  batch.rows = 1;
  batch.cu_seqlens = {0};
  std::size_t total = 0;
  for (const std::size_t row : rows) {
    const std::size_t inputs = inputs_of(samples, row);
    require(inputs <= kMostTokens - total,
            "batch: packed rows must have at most {} tokens together; got more", kMostTokens);
    total += inputs;
    batch.longest = std::max(batch.longest, static_cast<std::int64_t>(inputs));
    batch.cu_seqlens.push_back(static_cast<std::int32_t>(total));
  }
  const std::size_t length = packed_length(total);
  batch.length = static_cast<std::int64_t>(length);
  batch.ids.assign(length, pad_id);
  for (std::size_t i = 0; i < rows.size(); ++i)
    put_row(samples[rows[i]], static_cast<std::size_t>(batch.cu_seqlens[i]), batch);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::int32_t p = 0; p < batch.cu_seqlens[i + 1] - batch.cu_seqlens[i]; ++p)
      batch.sequence_positions.push_back(p);
  }
  // Padding is a sequence of its own, of which nothing is trained; its positions must only be some.
  if (length > total) batch.cu_seqlens.push_back(static_cast<std::int32_t>(length));
  batch.sequence_positions.resize(length);
  return batch;
}

std::int64_t HostBatch::trained_tokens() const {
  if (texts) return texts->rows();
  return std::count_if(targets.begin(), targets.end(), [](std::int32_t id) { return id != kIgnoreIndex; });
}

Batch HostBatch::upload(Device device) const {
  Batch batch;
  batch.tokens = tokens;
  batch.trained_tokens = trained_tokens();
  batch.longest = longest;
  batch.texts = texts;
  batch.ids = Tensor::from_values(ids, {rows, length}, device);
  if (!texts) batch.targets = Tensor::from_values(targets, {std::ssize(targets)}, device);
  if (!texts) batch.positions = Tensor::from_values(positions, {std::ssize(positions)}, device);
  if (!sequence_positions.empty())
    batch.sequence_positions = Tensor::from_values(sequence_positions, {rows, length}, device);
  if (!cu_seqlens.empty()) {
    const auto bounds = static_cast<std::int64_t>(cu_seqlens.size());
    batch.cu_seqlens = Tensor::from_values(cu_seqlens, {bounds}, device);
  }
  return batch;
}

Batch make_batch(std::span<const Sample> samples, std::span<const std::size_t> rows, std::int32_t pad_id,
                 Device device) {
  return make_host_batch(samples, rows, pad_id).upload(device);
}

std::vector<std::vector<std::size_t>> bucketed_batches(std::span<const Sample> samples,
                                                       std::size_t batch_size, Generator& generator) {
  require(batch_size > 0, "batch: batch size must be positive");
  std::vector<std::size_t> order(samples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  shuffle(order, generator);
  const std::size_t window = batch_size * kWindowBatches;
  for (std::size_t at = 0; at < order.size(); at += window) {
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(at);
    const auto last = order.begin() + static_cast<std::ptrdiff_t>(std::min(at + window, order.size()));
    std::stable_sort(first, last, [&](std::size_t a, std::size_t b) {
      return samples[a].ids.size() < samples[b].ids.size();
    });
  }
  auto batches = cut(order, batch_size);
  shuffle(batches, generator);
  return batches;
}

std::vector<std::vector<std::size_t>> packed_batches(std::span<const Sample> samples, std::size_t batch_size,
                                                     std::size_t capacity, Generator& generator) {
  require(batch_size > 0, "batch: batch size must be positive");
  std::vector<std::size_t> order(samples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  shuffle(order, generator);
  std::vector<std::size_t> lengths;
  for (const std::size_t row : order) lengths.push_back(inputs_of(samples, row));
  auto packs = best_fit_packs(lengths, capacity);
  shuffle(packs, generator);
  std::vector<std::vector<std::size_t>> batches;
  for (std::size_t i = 0; i < packs.size(); ++i) {
    if (i % batch_size == 0) batches.emplace_back();
    for (const std::size_t row : packs[i]) batches.back().push_back(order[row]);
  }
  return batches;
}

std::vector<std::vector<std::size_t>> sorted_batches(std::span<const Sample> samples,
                                                     std::size_t batch_size) {
  require(batch_size > 0, "batch: batch size must be positive");
  std::vector<std::size_t> order(samples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return samples[a].ids.size() > samples[b].ids.size();
  });
  return cut(order, batch_size);
}

void Positions::add(std::span<const Sample> samples, std::span<const std::size_t> batch) {
  std::size_t longest = 0;
  for (const std::size_t row : batch) {
    const std::size_t inputs = inputs_of(samples, row);
    real += static_cast<std::int64_t>(inputs);
    longest = std::max(longest, inputs);
  }
  all += static_cast<std::int64_t>(longest * batch.size());
}

void Positions::add_packed(std::span<const Sample> samples, std::span<const std::size_t> batch) {
  std::size_t total = 0;
  for (const std::size_t row : batch) total += inputs_of(samples, row);
  real += static_cast<std::int64_t>(total);
  all += static_cast<std::int64_t>(packed_length(total));
}

}  // namespace candela
