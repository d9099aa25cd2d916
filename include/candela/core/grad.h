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

struct GradNode;

/// Where the gradient of one input of an op goes, and how it must look. Holds the input's memory only where
/// the input is a leaf.
struct GradEdge {
  /// the op that made the input; null for a leaf
  std::shared_ptr<GradNode> node;
  /// which of that op's outputs the input is
  int output = 0;
  /// the input itself, where no op made it
  Tensor leaf;
  Shape shape;
  DType dtype = DType::F32;
  Device device;

  GradEdge() = default;
  /// Undefined where `input` is, or where it requires no gradient.
  explicit GradEdge(const Tensor& input);
  bool defined() const { return node != nullptr || leaf.defined(); }
};

/// How to compute a result again from tensors that its op keeps anyway.
struct Recipe {
  /// the same values, bit by bit
  std::function<Tensor()> make;
  std::vector<Tensor> reads;
};

/// While it lives, gradients keep in this thread what they read, also what could be computed again.
class KeepResults {
 public:
  explicit KeepResults(bool keep);
  KeepResults(const KeepResults&) = delete;
  KeepResults& operator=(const KeepResults&) = delete;
  ~KeepResults();

 private:
  bool previous_;
};

/// A tensor that a gradient reads: its recipe where it has one (Tensor::recipe) and KeepResults does not say
/// otherwise, else the tensor. A norm's or SwiGLU's result costs less time to compute again than memory to
/// keep.
class SavedTensor {
 public:
  SavedTensor() = default;
  explicit SavedTensor(const Tensor& tensor);
  bool defined() const { return recipe_ != nullptr || tensor_.defined(); }
  /// The tensor, cut off from autograd.
  Tensor get() const;
  /// Adds to `saved` what get() reads, for record().
  void append_reads(std::vector<Tensor>& saved) const;

 private:
  Tensor tensor_;
  std::shared_ptr<const Recipe> recipe_;
};

/// One executed op: how to turn the gradients of its outputs into those of its inputs. It keeps what
/// `backward` reads and nothing else.
struct GradNode {
  /// grads[i] belongs to output i and is undefined where nothing flowed back into that output. The result has
  /// one entry per input, undefined where that input needs none.
  using Backward = std::function<std::vector<Tensor>(std::span<const Tensor> grads)>;

  /// Memory that `backward` reads, as it was when the op ran.
  struct Saved {
    StoragePtr storage;
    std::uint64_t version = 0;
    /// with dtype: for the error
    Shape shape;
    DType dtype = DType::F32;
  };

  std::string op;
  /// execution order: an op's inputs have smaller numbers
  std::uint64_t sequence = 0;
  /// one per input
  std::vector<GradEdge> edges;
  int output_count = 1;
  /// empty once it has run: what it saved is freed
  Backward backward;
  std::vector<Saved> saved;

  GradNode() = default;
  GradNode(const GradNode&) = delete;
  GradNode& operator=(const GradNode&) = delete;
  /// Frees the nodes behind the edges one after the other: a recursion as deep as the graph would overflow
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

/// While it lives, ops on this thread record nothing, and it notes whether any would have, and the memory of
/// their inputs that require a gradient: a block that will be computed again on the way back.
class GradProbe {
 public:
  GradProbe();
  ~GradProbe();
  GradProbe(const GradProbe&) = delete;
  GradProbe& operator=(const GradProbe&) = delete;

  /// Inputs of ops that require a gradient, each memory at most once; empty: none would have recorded.
  const std::vector<Tensor>& seen() const { return seen_; }
  void note(const Tensor& input);

 private:
  bool previous_;
  GradProbe* outer_;
  std::vector<Tensor> seen_;
};

/// Whether a gradient must be recorded for an op on these inputs (undefined ones are skipped).
bool needs_grad(std::initializer_list<Tensor> inputs);
bool needs_grad(std::span<const Tensor> inputs);

/// While it lives, ops on this thread record even inside NoGrad: a block that is computed again on the way
/// back.
class WithGrad {
 public:
  WithGrad();
  ~WithGrad();
  WithGrad(const WithGrad&) = delete;
  WithGrad& operator=(const WithGrad&) = delete;

 private:
  bool previous_;
};

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
