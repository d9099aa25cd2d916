#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include <candela/train/trainer.h>

namespace candela {

/// What a training run will need, in bytes, from its largest batch.
struct MemoryPlan {
  std::size_t runtime = 0;   ///< the program itself: code, libraries and what they compile, tokenizer, data
  std::size_t weights = 0;   ///< the base model, whether mapped or converted
  std::size_t adapters = 0;  ///< trainable parameters and the optimizer's two moments
  std::size_t activations = 0;  ///< everything else at the peak: activations, gradients, scratch
  std::size_t available = 0;  ///< what the system could give before the model is loaded; 0: it does not tell

  std::size_t total() const { return runtime + weights + adapters + activations; }
  /// Beyond what is resident already.
  std::size_t needed() const { return weights + adapters + activations; }
};

/// Runs optimizer steps on Device::plan(), where nothing is computed and memory is only counted: on the
/// largest batch, on batches from the longest rows to the shortest, whose blocks the allocator keeps, and on
/// the largest batch again, each of two passes where gradients accumulate; then the longest validation batch.
/// What kernels take while they run is that of the CPU's. `prepare` makes the model, with its adapters,
/// on a device; it is called with the plan device. `valid` may be empty.
MemoryPlan plan_memory(const std::function<std::unique_ptr<Model>(Device)>& prepare,
                       const TrainOptions& options, std::span<const Sample> samples,
                       std::span<const std::size_t> worst_batch, std::span<const Sample> valid = {});

/// Throws DeviceError naming the largest term and the option that shrinks it if the plan does not fit what is
/// available.
void check_fits(const MemoryPlan& plan);

}  // namespace candela
