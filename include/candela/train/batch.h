#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/io/dataset.h>

namespace candela {

/// Texts whose embeddings are trained: rows of `columns` texts (anchor and positive, say), text after text in
/// one packed batch.
struct TextRows {
  /// texts of a row
  std::int64_t columns = 2;
  /// of each text, the first of its tokens that is pooled and the one behind its last, as positions in [0, T)
  std::vector<std::int32_t> first, end;
  /// one per row, or empty
  std::vector<float> scores;

  std::int64_t rows() const { return static_cast<std::int64_t>(first.size()) / columns; }
};

/// Rows that are trained together, on a device.
struct Batch {
  /// i32 [B, T]
  Tensor ids;
  /// i32 [trained]: the tokens to predict; kIgnoreIndex where a bucket is filled up
  Tensor targets;
  /// i32 [trained]: where they are predicted, as row-major positions in [B, T]
  Tensor positions;
  /// of packed rows, i32 [B, T] (ForwardOptions::positions); else undefined
  Tensor sequence_positions;
  /// of packed rows, i32 [N + 1] (ForwardOptions::cu_seqlens); else undefined
  Tensor cu_seqlens;
  /// for an objective over embeddings; else null
  std::shared_ptr<const TextRows> texts;
  /// as HostBatch::tokens
  std::int64_t tokens = 0;
  std::int64_t trained_tokens = 0;
};

/// The same before it is on a device: rows padded on the right to the longest, or packed into one. Token t of
/// a row predicts token t + 1.
struct HostBatch {
  /// B
  std::int64_t rows = 0;
  /// T
  std::int64_t length = 0;
  /// B T, row-major
  std::vector<std::int32_t> ids;
  /// as in Batch
  std::vector<std::int32_t> targets;
  /// as in Batch, one per target
  std::vector<std::int32_t> positions;
  /// B T, or empty
  std::vector<std::int32_t> sequence_positions;
  /// N + 1, with B = 1, or empty
  std::vector<std::int32_t> cu_seqlens;
  /// as in Batch; then there are no targets, and what is trained are its rows
  std::shared_ptr<const TextRows> texts;
  /// Without padding, the last token of each row not counted: B rows of L tokens have B (L - 1).
  std::int64_t tokens = 0;

  /// Targets but those that are ignored; with texts, the rows.
  std::int64_t trained_tokens() const;
  /// Positions that it computes, padding included.
  std::int64_t computed() const { return rows * length; }
  Batch upload(Device device) const;
};

/// Gathers `rows` of `samples`; as make_batch.
HostBatch make_host_batch(std::span<const Sample> samples, std::span<const std::size_t> rows,
                          std::int32_t pad_id);

/// Gathers `rows` of `samples`. `pad_id` fills; padding is never trained and never seen by a real token.
/// Throws InvalidArgument naming a row that is not there, has fewer than 2 tokens, or not a mark for each
/// token.
Batch make_batch(std::span<const Sample> samples, std::span<const std::size_t> rows, std::int32_t pad_id,
                 Device device);

/// The batches of one epoch as row indices: rows are shuffled, sorted by length inside windows of many
/// batches so that rows of a batch have similar lengths, and the batches are shuffled again. Every row is in
/// exactly one batch; the last one may be smaller. Depends on the generator alone.
std::vector<std::vector<std::size_t>> bucketed_batches(std::span<const Sample> samples,
                                                       std::size_t batch_size, Generator& generator);

/// Rows in order of falling length, for evaluation: batches of similar lengths, the most memory first.
std::vector<std::vector<std::size_t>> sorted_batches(std::span<const Sample> samples, std::size_t batch_size);

/// Positions that batches take: every row is padded to the longest of its batch.
struct Positions {
  std::int64_t real = 0;
  /// with padding
  std::int64_t all = 0;

  /// Throws as make_batch.
  void add(std::span<const Sample> samples, std::span<const std::size_t> batch);
  double padding_share() const {
    return all > 0 ? 1 - static_cast<double>(real) / static_cast<double>(all) : 0;
  }
};

}  // namespace candela
