#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <candela/models/model.h>
#include <candela/ops/optimizer.h>

namespace candela {

/// AdamW over the parameters of a run, with its moments (Loshchilov & Hutter, 2019). Parameters that lie
/// behind each other in one tensor, as Lora's do, are one block: their norm, clipping and update are one
/// pass. Their gradients are views of one tensor per block.
class Optimizer {
 public:
  /// `parameters` require gradients and are contiguous. Moments are 0. clip_norm: 0 for none.
  Optimizer(std::vector<NamedTensor> parameters, const AdamwOptions& options, double clip_norm);
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  ~Optimizer();

  /// Sets all gradients to 0.
  void clear_gradients();

  /// Enqueues the norm; waits for nothing. `loss`, f32 [1], is the sum of the step's losses. To be followed
  /// by finish().
  void step(const Tensor& loss, double learning_rate);

  /// What the last step gave.
  struct Result {
    /// as given to step()
    double loss = 0;
    /// of the gradient, before clipping
    double norm = 0;
    bool applied = true;
  };
  /// Reads loss and norm, the one wait of a step, and enqueues clipping and update; where one of them is not
  /// finite, parameters and moments stay as they are. Zeros on Device::plan().
  Result finish();

  /// Updates that were applied.
  std::int64_t updates() const { return updates_; }
  const std::vector<NamedTensor>& parameters() const { return parameters_; }
  /// Bytes that stay for the whole run: parameters, gradients and moments.
  std::size_t bytes() const;

  /// The moments as views, "exp_avg.NAME" and "exp_avg_sq.NAME" of each parameter, f32.
  std::vector<NamedTensor> moments() const;
  /// Takes moments() of an earlier run over the same parameters, on any device, and its updates(). Throws
  /// IoError naming the first tensor that is missing, left over or of another shape or dtype.
  void restore(std::span<const NamedTensor> moments, std::int64_t updates);

 private:
  /// Parameters that share one tensor without gaps.
  struct Block {
    std::vector<std::size_t> members;  // indices into parameters_, in the order of memory
    Tensor values, grads, m, v;        // [N]
    std::vector<Tensor> parts;         // of grads, one per member
  };
  void add_block(std::vector<std::size_t> members);

  std::vector<NamedTensor> parameters_;
  AdamwOptions options_;
  double clip_norm_;
  std::vector<Block> blocks_;
  Tensor sums_;               // f32 [2]: loss, sum of squares of the gradients
  double learning_rate_ = 0;  // of the step that is enqueued
  std::int64_t updates_ = 0;
};

}  // namespace candela
