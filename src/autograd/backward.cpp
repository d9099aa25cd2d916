#include <map>
#include <unordered_map>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>

namespace candela {
namespace {

/// a + b where either may be undefined. Never writes into its operands: ops may hand one tensor to several
/// inputs.
Tensor accumulate(const Tensor& a, const Tensor& b) {
  return !a.defined() ? b : (!b.defined() ? a : add(a, b));
}

/// Whether a leaf may keep `grad` as it is: nothing else reads or writes its memory, and it is not a small
/// part of a block that it would keep alive.
bool can_own(const Tensor& grad) {
  const std::size_t bytes = static_cast<std::size_t>(grad.numel()) * size_of(grad.dtype());
  return grad.is_contiguous() && grad.sole_owner() &&
         grad.storage()->bytes() <= 2 * CachingAllocator::round_up(bytes);
}

void accumulate_leaf(const Tensor& leaf, Tensor grad) {
  if (leaf.grad().defined()) {
    leaf.set_grad(add(leaf.grad(), grad));
  } else {
    leaf.set_grad(can_own(grad) ? std::move(grad) : clone(grad));
  }
}

void check_saved(const GradNode& node) {
  for (const GradNode::Saved& saved : node.saved) {
    require(saved.storage->version() == saved.version,
            "backward: a tensor that {} needs for its gradient ({} {} on {}) was changed in place after the "
            "forward pass; change a clone() of it, or after backward()",
            node.op, to_string(saved.dtype), saved.shape, saved.storage->device());
  }
}

/// Kernels take the gradient to be as the tensor that it belongs to.
bool same_kind(const Tensor& grad, const Tensor& tensor) {
  return grad.shape() == tensor.shape() && grad.dtype() == tensor.dtype() && grad.device() == tensor.device();
}

using Pending = std::unordered_map<GradNode*, std::vector<Tensor>>;

/// Runs one node's backward and frees what it saved: the gradients of its inputs.
std::vector<Tensor> run_node(GradNode& node, std::vector<Tensor> grads) {
  require(node.backward != nullptr,
          "backward: the graph of {} has been walked already; run the forward pass again", node.op);
  check_saved(node);
  std::vector<Tensor> input_grads = node.backward(grads);
  require<Error>(input_grads.size() == node.inputs.size(), "backward: {} gave {} gradients for {} inputs",
                 node.op, input_grads.size(), node.inputs.size());
  node.backward = nullptr;
  node.saved.clear();
  return input_grads;
}

/// Runs one node's backward and hands the results to the nodes (or leaves) behind its inputs.
void step(GradNode& node, std::vector<Tensor> grads, Pending& pending,
          std::map<std::uint64_t, std::shared_ptr<GradNode>, std::greater<>>& ready) {
  std::vector<Tensor> input_grads = run_node(node, std::move(grads));
  const std::vector<Tensor> inputs = std::move(node.inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& input = inputs[i];
    Tensor grad = std::move(input_grads[i]);
    if (!input.defined() || !grad.defined()) continue;
    if (!same_kind(grad, input))
      throw Error(fmt::format("backward: {} gave a gradient {} for input {}, {}", node.op, describe(grad), i,
                              describe(input)));
    const std::shared_ptr<GradNode>& source = input.grad_node();
    if (!source) {
      accumulate_leaf(input, std::move(grad));
      continue;
    }
    std::vector<Tensor>& slots = pending[source.get()];
    slots.resize(static_cast<std::size_t>(source->output_count));
    Tensor& slot = slots[static_cast<std::size_t>(input.grad_output())];
    slot = accumulate(slot, grad);
    ready.emplace(source->sequence, source);
  }
}

}  // namespace

void backward(const Tensor& loss, const Tensor& seed) {
  require(loss.defined() && loss.requires_grad(),
          "backward: the loss does not depend on anything that requires a gradient");
  const NoGrad guard;
  Tensor start = seed.defined() ? seed : ones(loss.shape(), loss.dtype(), loss.device());
  require(same_kind(start, loss), "backward: seed must be {} to match the loss; got {}", describe(loss),
          describe(start));
  if (!loss.grad_node()) {
    accumulate_leaf(loss, std::move(start));
    return;
  }
  // Nodes run in falling order of execution: every consumer of a tensor comes before its producer.
  std::map<std::uint64_t, std::shared_ptr<GradNode>, std::greater<>> ready;
  Pending pending;
  std::vector<Tensor>& slots = pending[loss.grad_node().get()];
  slots.resize(static_cast<std::size_t>(loss.grad_node()->output_count));
  slots[static_cast<std::size_t>(loss.grad_output())] = std::move(start);
  ready.emplace(loss.grad_node()->sequence, loss.grad_node());
  while (!ready.empty()) {
    const std::shared_ptr<GradNode> node = ready.begin()->second;
    ready.erase(ready.begin());
    auto grads = pending.extract(node.get());
    step(*node, std::move(grads.mapped()), pending, ready);
  }
}

}  // namespace candela
