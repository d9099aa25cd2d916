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

  /// Memory that `backward` reads, as it was when the op ran.
  struct Saved {
    StoragePtr storage;
    std::uint64_t version = 0;
    Shape shape;  ///< with dtype: for the error
    DType dtype = DType::F32;
  };

  std::string op;
  std::uint64_t sequence = 0;  ///< execution order: an op's inputs have smaller numbers
  std::vector<Tensor> inputs;  ///< undefined where the input needs no gradient
  int output_count = 1;
  Backward backward;  ///< empty once it has run: what it saved is freed
  std::vector<Saved> saved;

  GradNode() = default;
  GradNode(const GradNode&) = delete;
  GradNode& operator=(const GradNode&) = delete;
  /// Frees the nodes behind the inputs one after the other: a recursion as deep as the graph would overflow
  /// the stack.
  ~GradNode();
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

/// Records `backward` as the way from `outputs` to `inputs`. Call it only when needs_grad(inputs). `saved`
/// are the tensors whose values `backward` reads (undefined ones are skipped): that one was written in place
/// in between is an error when the node runs.
void record(std::string op, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            GradNode::Backward backward, std::initializer_list<Tensor> saved = {});
void record(std::string op, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            GradNode::Backward backward, std::span<const Tensor> saved);

/// Throws Unsupported, naming `op`, when a gradient would be needed: the guard of ops that have none.
void refuse_grad(const char* op, std::initializer_list<Tensor> inputs);

}  // namespace candela
