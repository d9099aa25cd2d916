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
    add_(leaf.grad(), grad);
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
bool same_kind(const Tensor& grad, const GradEdge& edge) {
  return grad.shape() == edge.shape && grad.dtype() == edge.dtype && grad.device() == edge.device;
}

/// Runs one node's backward and frees what it saved: the gradients of its inputs.
std::vector<Tensor> run_node(GradNode& node, std::vector<Tensor> grads) {
  require(node.backward != nullptr,
          "backward: the graph of {} has been walked already; run the forward pass again", node.op);
  check_saved(node);
  std::vector<Tensor> input_grads = node.backward(grads);
  require<Error>(input_grads.size() == node.edges.size(), "backward: {} gave {} gradients for {} inputs",
                 node.op, input_grads.size(), node.edges.size());
  node.backward = nullptr;
  node.saved.clear();
  return input_grads;
}

/// The walk: gradients that wait for their node, and the nodes in falling order of execution, so that every
/// consumer of a tensor comes before its producer.
struct Walk {
  std::unordered_map<GradNode*, std::vector<Tensor>> pending;
  std::map<std::uint64_t, std::shared_ptr<GradNode>, std::greater<>> ready;

  /// Hands `grad` to the node or leaf behind `edge`.
  void give(const GradEdge& edge, Tensor grad) {
    if (edge.node == nullptr) {
      accumulate_leaf(edge.leaf, std::move(grad));
      return;
    }
    std::vector<Tensor>& slots = pending[edge.node.get()];
    slots.resize(static_cast<std::size_t>(edge.node->output_count));
    Tensor& slot = slots[static_cast<std::size_t>(edge.output)];
    slot = accumulate(slot, grad);
    ready.emplace(edge.node->sequence, edge.node);
  }

  /// Runs one node's backward and hands the results on.
  void step(GradNode& node, std::vector<Tensor> grads) {
    std::vector<Tensor> input_grads = run_node(node, std::move(grads));
    const std::vector<GradEdge> edges = std::move(node.edges);
    for (std::size_t i = 0; i < edges.size(); ++i) {
      Tensor grad = std::move(input_grads[i]);
      if (!edges[i].defined() || !grad.defined()) continue;
      if (!same_kind(grad, edges[i])) {
        throw Error(fmt::format("backward: {} gave a gradient {} for input {}, {} {} on {}", node.op,
                                describe(grad), i, to_string(edges[i].dtype), edges[i].shape,
                                edges[i].device));
      }
      give(edges[i], std::move(grad));
    }
  }

  void run() {
    while (!ready.empty()) {
      const std::shared_ptr<GradNode> node = ready.begin()->second;
      ready.erase(ready.begin());
      auto grads = pending.extract(node.get());
      step(*node, std::move(grads.mapped()));
    }
  }
};

}  // namespace

void backward(std::span<const Tensor> results, std::span<const Tensor> seeds) {
  require(seeds.empty() || seeds.size() == results.size(),
          "backward: needs one seed for each of the {} results, or none; got {}", results.size(),
          seeds.size());
  const NoGrad guard;
  std::vector<Tensor> starts;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Tensor& result = results[i];
    require(result.defined() && result.requires_grad(),
            "backward: the loss does not depend on anything that requires a gradient");
    const bool given = i < seeds.size() && seeds[i].defined();
    starts.push_back(given ? seeds[i] : ones(result.shape(), result.dtype(), result.device()));
    require(same_kind(starts[i], GradEdge(result)), "backward: seed must be {} to match the loss; got {}",
            describe(result), describe(starts[i]));
  }
  Walk walk;
  for (std::size_t i = 0; i < results.size(); ++i) walk.give(GradEdge(results[i]), std::move(starts[i]));
  walk.run();
}

void backward(const Tensor& loss, const Tensor& seed) {
  backward(std::span(&loss, 1), std::span(&seed, 1));
}

}  // namespace candela
