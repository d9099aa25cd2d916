#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <candela/io/dataset.h>
#include <candela/train/trainer.h>

namespace candela {

/// Which rows each optimizer step of a run sees, epoch after epoch. A step takes `accumulation` batches, the
/// last of an epoch what is left of it: every row is in exactly one step of an epoch.
class StepBatches {
 public:
  /// Starts at the first step of `epoch`.
  StepBatches(std::span<const Sample> samples, const TrainOptions& options, std::uint64_t epoch = 0);

  /// The batches of the next step, as rows of the samples.
  std::vector<std::vector<std::size_t>> next();

  std::uint64_t epoch() const { return epoch_; }
  /// Batches of the epoch that were given.
  std::size_t cursor() const { return cursor_; }
  /// Goes on behind the first `cursor` batches of `epoch`; false if the epoch has no step that ends there.
  bool seek(std::uint64_t epoch, std::size_t cursor);

  /// of every epoch
  std::int64_t steps_per_epoch() const;
  /// Whether a step can take more than one batch.
  bool accumulates() const { return accumulation_ > 1 && order_.size() > 1; }
  /// Of the whole run.
  std::int64_t steps() const;

 private:
  void shuffle();

  std::span<const Sample> samples_;
  std::size_t batch_size_;
  std::size_t accumulation_;
  std::size_t pack_length_;
  std::int64_t max_steps_;
  double epochs_;
  std::uint64_t seed_;
  std::uint64_t epoch_;
  std::vector<std::vector<std::size_t>> order_;
  std::size_t cursor_ = 0;
};

}  // namespace candela
