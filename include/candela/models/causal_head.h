#pragma once

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/models/linear.h>

namespace candela {

/// Predicts the next token from hidden states: logits = multiplier hidden W^T, and with a cap c, c
/// tanh(logits / c). Const members may be called on several threads at once.
class CausalHead {
 public:
  struct Options {
    double multiplier = 1;
    /// 0: none
    double cap = 0;
  };

  /// `layer` must outlive the head.
  CausalHead(const Linear& layer, const Options& options) : layer_(&layer), options_(options) {}

  const Linear& layer() const { return *layer_; }

  /// hidden [..., D] -> logits [..., V] in the weights' dtype. With a generator, the adapter's input goes
  /// through dropout.
  Tensor logits(const Tensor& hidden, Generator* dropout = nullptr) const;
  /// The sum, f32 [1], over hidden's rows [..., D] of the cross entropy against targets (i32 or i64 [...]:
  /// the id that should come next, or kIgnoreIndex). Divide by the number of targets that count for the mean.
  /// The logits never exist as a whole, unless they are capped. Gradients for hidden and the adapter.
  Tensor loss(const Tensor& hidden, const Tensor& targets, Generator* dropout = nullptr) const;

 private:
  const Linear* layer_;
  Options options_;
};

}  // namespace candela
