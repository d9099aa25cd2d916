#pragma once

#include <span>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/models/model.h>
#include <candela/train/batch.h>

namespace candela {

/// What a run minimises instead of the next-token loss. A loss here is a sum over the trained items of a step
/// (Batch::trained_tokens of all its batches): the trainer divides by their number.
class Objective {
 public:
  Objective() = default;
  Objective(const Objective&) = delete;
  Objective& operator=(const Objective&) = delete;
  virtual ~Objective() = default;

  /// f32 [1]: the loss of the batches of one step, taken together; without dropout.
  virtual Tensor loss(const Model& model, std::span<const Batch> batches) const = 0;
  /// Adds `share` times the gradient of the loss to the gradients of the parameters; returns the loss,
  /// detached. `dropout` draws the masks of the adapters.
  virtual Tensor accumulate(const Model& model, std::span<const Batch> batches, double share,
                            Generator& dropout, Checkpointing checkpointing) const = 0;
};

}  // namespace candela
