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
  /// of packed rows, as ForwardOptions::longest; else 0
  std::int64_t longest = 0;
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
  /// as in Batch
  std::int64_t longest = 0;
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

/// What a packed batch of `tokens` is padded to: products of few different shapes, each of whole tiles. Less
/// than one position in 64 is padding.
std::size_t packed_length(std::size_t tokens);

/// Gathers `rows` of `samples` into one row [1, T] behind each other: each is a sequence of its own, whose
/// positions begin at 0 and whose tokens see no other's. Loss and gradient are those of make_host_batch() on
/// the same rows. Throws as make_batch, and where T is beyond 2^31 - 1.
HostBatch make_packed_batch(std::span<const Sample> samples, std::span<const std::size_t> rows,
                            std::int32_t pad_id);

/// The batches of one epoch as row indices: rows are shuffled, sorted by length inside windows of many
/// batches so that rows of a batch have similar lengths, and the batches are shuffled again. Every row is in
/// exactly one batch; the last one may be smaller. Depends on the generator alone.
std::vector<std::vector<std::size_t>> bucketed_batches(std::span<const Sample> samples,
                                                       std::size_t batch_size, Generator& generator);

/// The packed batches of one epoch as row indices, for make_packed_batch(): rows are shuffled, put into packs
/// of at most `capacity` tokens (best_fit_packs; a row of L tokens takes L - 1), the packs are shuffled, and
/// `batch_size` of them make a batch. Every row is in exactly one batch; the last one may have fewer packs.
/// The number of batches is that of every epoch. Depends on the generator alone.
std::vector<std::vector<std::size_t>> packed_batches(std::span<const Sample> samples, std::size_t batch_size,
                                                     std::size_t capacity, Generator& generator);

/// Rows in order of falling length, for evaluation: batches of similar lengths, the most memory first.
std::vector<std::vector<std::size_t>> sorted_batches(std::span<const Sample> samples, std::size_t batch_size);

/// Positions that batches take: every row is padded to the longest of its batch, or packed.
struct Positions {
  std::int64_t real = 0;
  /// with padding
  std::int64_t all = 0;

  /// Throws as make_batch.
  void add(std::span<const Sample> samples, std::span<const std::size_t> batch);
  /// of make_packed_batch()
  void add_packed(std::span<const Sample> samples, std::span<const std::size_t> batch);
  double padding_share() const {
    return all > 0 ? 1 - static_cast<double>(real) / static_cast<double>(all) : 0;
  }
};

}  // namespace candela
