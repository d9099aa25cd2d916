#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include <candela/train/trainer.h>

namespace candela {

/// What a training run will need, in bytes, from its largest batch.
struct MemoryPlan {
  /// the program itself: code, libraries and what they compile, tokenizer, data
  std::size_t runtime = 0;
  /// the base model, whether mapped or converted
  std::size_t weights = 0;
  /// trainable parameters, their gradients and the optimizer's two moments
  std::size_t adapters = 0;
  /// everything else at the peak: activations, their gradients, workspace
  std::size_t activations = 0;
  /// what the device could give before the model is loaded; 0: it does not tell
  std::size_t available = 0;

  std::size_t total() const { return runtime + weights + adapters + activations; }
  /// Beyond what is resident already.
  std::size_t needed() const { return weights + adapters + activations; }
};

/// Runs optimizer steps on Device::plan(target), where nothing is computed and memory is only counted: on the
/// planned() batches of the source, whose blocks the allocator keeps, and on the largest again, each of two
/// passes where gradients accumulate; then the largest validation batch (`valid` may be null). `prepare`
/// makes the model with its adapters on that plan device; it must not have been there before.
MemoryPlan plan_memory(const std::function<Model&()>& prepare, const TrainOptions& options,
                       const BatchSource& source, const BatchSource* valid = nullptr,
                       Device target = Device::cpu());

/// Throws DeviceError naming the largest term and the option that shrinks it if the plan does not fit what is
/// available.
void check_fits(const MemoryPlan& plan);

}  // namespace candela
