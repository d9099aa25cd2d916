#pragma once

#include <cstdint>

#include "backend/args/loss.h"
#include "backend/cpu/gemm.h"

/// What the loss over given logits and the loss over a linear layer's logits share.
namespace candela::loss_detail {

/// Target of row `n`, or -1 if the row is ignored. Throws for a target outside [0, classes).
std::int64_t target_of(const TensorArg& targets, std::int64_t n, std::int64_t classes,
                       std::int64_t ignore_index);

/// Rows of f32 logits [count, classes] with their targets.
struct LogitChunk {
  float* logits;
  std::int64_t count, classes;
  const std::int64_t* targets;
  /// [count]: -log softmax(logits)[target] of each row
  float* losses;
  /// [count, classes]: softmax(logits) - onehot(target); absent if its data is null. May be the logits.
  Matrix gradient;
  /// Whether the gradient also replaces the logits, in f32.
  bool replace;
};
void chunk_losses(const LogitChunk& chunk);

}  // namespace candela::loss_detail
