#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <candela/io/dataset.h>
#include <candela/train/batch.h>

namespace candela {

struct TrainOptions;

/// How long training will be: what is known before the first step. Of a run of very many epochs, padding is
/// that of the first ones.
struct TrainLength {
  /// 0: the source cannot tell (a stream without TrainOptions::max_steps)
  std::int64_t steps = 0;
  /// without padding
  std::int64_t tokens = 0;
  std::int64_t trained_tokens = 0;
  /// share of the computed positions
  double padding = 0;
};

/// Where the batches of a run come from, in the order in which it takes them. One reader at a time.
class BatchSource {
 public:
  BatchSource() = default;
  BatchSource(const BatchSource&) = delete;
  BatchSource& operator=(const BatchSource&) = delete;
  virtual ~BatchSource() = default;

  /// The batches of the next optimizer step, each one forward pass with at least one trained token; empty:
  /// the data have ended.
  virtual std::vector<HostBatch> next() = 0;
  /// Where next() goes on, as text for restore(): whatever the source needs to give the same batches again.
  virtual std::string place() const = 0;
  /// Goes on at a place() of a source over the same data and options. IoError where it does not fit.
  virtual void restore(std::string_view place) = 0;

  virtual TrainLength length() const = 0;
  /// Batches that stand for all others in a plan of memory: the one that computes the most positions, then
  /// some of falling size. Does not move the place.
  virtual std::vector<HostBatch> planned() const = 0;
  /// Whether a step can take more than one batch.
  virtual bool accumulates() const = 0;
  /// How many batches like a planned one stand for a step. More than 2 matter where the loss holds the
  /// results of all of them: next-token gradients of the first batch are there while the next one runs.
  virtual std::size_t planned_passes() const { return accumulates() ? 2 : 1; }
  /// Throws InvalidArgument naming a row that could not be run with a vocabulary of this size. A source that
  /// reads as it goes checks each row as it comes instead.
  virtual void check(std::int64_t vocab_size) const = 0;
};

/// Samples in memory, which must outlive it. Every row is in exactly one batch of an epoch
/// (bucketed_batches); a step takes `accumulation` batches, the last of an epoch what is left of it; epochs
/// follow each other without end. The order depends on TrainOptions::seed, batch_size and accumulation alone.
class SampleSource final : public BatchSource {
 public:
  /// Uses batch_size, accumulation, epochs, max_steps, seed and pad_id of the options.
  SampleSource(std::span<const Sample> samples, const TrainOptions& options);
  ~SampleSource() override;

  std::vector<HostBatch> next() override;
  std::string place() const override;
  void restore(std::string_view place) override;
  TrainLength length() const override;
  std::vector<HostBatch> planned() const override;
  bool accumulates() const override;
  void check(std::int64_t vocab_size) const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Samples in memory for validation, which must outlive it: one batch at a time in order of falling length,
/// each row once, then the end. restore("") begins anew.
class ValidationSource final : public BatchSource {
 public:
  ValidationSource(std::span<const Sample> samples, std::int64_t batch_size, std::int32_t pad_id);

  std::vector<HostBatch> next() override;
  std::string place() const override;
  void restore(std::string_view place) override;
  TrainLength length() const override;
  std::vector<HostBatch> planned() const override;
  bool accumulates() const override { return false; }
  void check(std::int64_t vocab_size) const override;

 private:
  std::span<const Sample> samples_;
  std::int32_t pad_id_;
  std::vector<std::vector<std::size_t>> batches_;
  std::size_t cursor_ = 0;
};

}  // namespace candela
