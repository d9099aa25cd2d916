#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <candela/models/model.h>
#include <candela/ops/optimizer.h>

namespace candela {

/// AdamW over the parameters of a run, with its moments (Loshchilov & Hutter, 2019). Parameters that lie
/// behind each other in one tensor, as Lora's do, are one block: their norm, clipping and update are one
/// pass. Their gradients are views of one tensor per block. For one thread at a time.
class Optimizer {
 public:
  /// `parameters` require gradients and are contiguous. Moments are 0. clip_norm: 0 for none.
  Optimizer(std::vector<NamedTensor> parameters, const AdamwOptions& options, double clip_norm);
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  ~Optimizer();

  /// Sets all gradients to 0.
  void clear_gradients();

  /// Enqueues norm, clipping and update; waits for nothing. `loss`, the sum of the step's losses, and
  /// `learning_rate` are f32 [1]. Where the loss or the norm is not finite, parameters and moments stay as
  /// they are: the device decides. To be followed by finish(), possibly after further steps.
  void step(const Tensor& loss, const Tensor& learning_rate);
  /// The steps that finish() has not read.
  std::size_t in_flight() const { return in_flight_.size(); }

  /// What a step gave.
  struct Result {
    /// as given to step()
    double loss = 0;
    /// of the gradient, before clipping
    double norm = 0;
    bool applied = true;
  };
  /// Reads the oldest step in flight, the one wait of a step. Zeros on Device::plan().
  Result finish();

  /// Updates that were applied, of the steps that were read.
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
  /// f32 [2]: loss, sum of squares of the gradients
  Tensor sums_;
  /// f32 [1]: updates that were applied, as the device counts them
  Tensor counted_;
  /// `sums_` of a step on their way to the host.
  struct InFlight {
    std::array<float, 2> sums{};
    std::unique_ptr<Event> read;
  };
  std::deque<InFlight> in_flight_;
  std::int64_t updates_ = 0;
};

}  // namespace candela
