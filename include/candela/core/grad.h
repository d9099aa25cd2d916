#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include <candela/core/tensor.h>

/// What an op records so that gradients can flow back through it. autograd/backward.h walks these nodes.
namespace candela {

/// One executed op: how to turn the gradients of its outputs into those of its inputs.
struct GradNode {
  /// grads[i] belongs to output i and is undefined where nothing flowed back into that output. The result has
  /// one entry per input, undefined where that input needs none.
  using Backward = std::function<std::vector<Tensor>(std::span<const Tensor> grads)>;

  std::string op;
  std::uint64_t sequence = 0;  ///< execution order: an op's inputs have smaller numbers
  std::vector<Tensor> inputs;  ///< undefined where the input needs no gradient
  int output_count = 1;
  Backward backward;  ///< empty once it has run: what it saved is freed
};

/// Whether ops record gradients on this thread.
bool grad_enabled();

/// While it lives, ops on this thread record nothing: inference, optimizer steps.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

/// Whether a gradient must be recorded for an op on these inputs (undefined ones are skipped).
bool needs_grad(std::initializer_list<Tensor> inputs);
bool needs_grad(std::span<const Tensor> inputs);

/// Records `backward` as the way from `outputs` to `inputs`. Call it only when needs_grad(inputs).
void record(std::string op, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            GradNode::Backward backward);

/// Throws Unsupported, naming `op`, when a gradient would be needed: the guard of ops that have none.
void refuse_grad(const char* op, std::initializer_list<Tensor> inputs);

}  // namespace candela
