#include "train/step_batches.h"

#include <algorithm>
#include <cmath>

#include <candela/train/batch.h>

namespace candela {

StepBatches::StepBatches(std::span<const Sample> samples, const TrainOptions& options, std::uint64_t epoch)
    : samples_(samples),
      batch_size_(static_cast<std::size_t>(options.batch_size)),
      accumulation_(static_cast<std::size_t>(options.accumulation)),
      pack_length_(static_cast<std::size_t>(options.pack_length)),
      max_steps_(options.max_steps),
      epochs_(options.epochs),
      seed_(options.seed),
      epoch_(epoch) {
  shuffle();
}

void StepBatches::shuffle() {
  Generator generator(seed_);
  generator.set_offset(epoch_ << 40U);
  order_ = pack_length_ > 0 ? packed_batches(samples_, batch_size_, pack_length_, generator)
                            : bucketed_batches(samples_, batch_size_, generator);
  cursor_ = 0;
}

std::vector<std::vector<std::size_t>> StepBatches::next() {
  if (cursor_ == order_.size()) {
    ++epoch_;
    shuffle();
  }
  const std::size_t end = std::min(cursor_ + accumulation_, order_.size());
  const auto at = [&](std::size_t i) { return order_.begin() + static_cast<std::ptrdiff_t>(i); };
  std::vector<std::vector<std::size_t>> batches(std::make_move_iterator(at(cursor_)),
                                                std::make_move_iterator(at(end)));
  cursor_ = end;
  return batches;
}

bool StepBatches::seek(std::uint64_t epoch, std::size_t cursor) {
  epoch_ = epoch;
  shuffle();
  if (cursor > order_.size() || (cursor % accumulation_ != 0 && cursor != order_.size())) return false;
  cursor_ = cursor;
  return true;
}

std::int64_t StepBatches::steps_per_epoch() const {
  return static_cast<std::int64_t>((order_.size() + accumulation_ - 1) / accumulation_);
}

std::int64_t StepBatches::steps() const {
  if (max_steps_ > 0) return max_steps_;
  const auto whole = static_cast<double>(steps_per_epoch());
  // The small term keeps 0.1 * 30 from becoming 4.
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(whole * epochs_ - 1e-9)));
}

}  // namespace candela
