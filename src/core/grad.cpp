#include <algorithm>
#include <atomic>
#include <new>

#include <candela/core/error.h>
#include <candela/core/grad.h>

namespace candela {
namespace {

thread_local bool recording = true;

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> counter{0};
  return ++counter;
}

}  // namespace

bool grad_enabled() {
  return recording;
}

NoGrad::NoGrad() : previous_(recording) {
  recording = false;
}

NoGrad::~NoGrad() {
  recording = previous_;
}

bool needs_grad(std::span<const Tensor> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(), [](const Tensor& input) {
           return input.defined() && input.requires_grad();
         });
}

bool needs_grad(std::initializer_list<Tensor> inputs) {
  return needs_grad(std::span<const Tensor>(inputs.begin(), inputs.size()));
}

GradNode::~GradNode() {
  // The inputs of the nodes whose destructors have begun, freed one after the other by the first of them.
  thread_local std::vector<std::vector<Tensor>>* pending = nullptr;
  if (inputs.empty()) return;
  if (pending != nullptr) {
    try {
      pending->push_back(std::move(inputs));
    } catch (const std::bad_alloc&) {
      // Then the inputs go with this node, one recursion deeper.
    }
    return;
  }
  std::vector<std::vector<Tensor>> mine;
  pending = &mine;
  inputs.clear();
  while (!mine.empty()) {
    std::vector<Tensor> next = std::move(mine.back());
    mine.pop_back();
    next.clear();
  }
  pending = nullptr;
}

void record(std::string op, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            GradNode::Backward backward, std::span<const Tensor> saved) {
  auto node = std::make_shared<GradNode>();
  node->op = std::move(op);
  node->sequence = next_sequence();
  for (Tensor& input : inputs) {
    if (input.defined() && !input.requires_grad()) input = Tensor();
  }
  node->inputs = std::move(inputs);
  node->output_count = static_cast<int>(outputs.size());
  node->backward = std::move(backward);
  for (const Tensor& tensor : saved) {
    if (!tensor.defined()) continue;
    node->saved.push_back({tensor.storage(), tensor.storage()->version(), tensor.shape(), tensor.dtype()});
  }
  for (int i = 0; i < node->output_count; ++i) outputs[static_cast<std::size_t>(i)]->set_grad_node(node, i);
}

void record(std::string op, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            GradNode::Backward backward, std::initializer_list<Tensor> saved) {
  record(std::move(op), std::move(inputs), std::move(outputs), std::move(backward),
         std::span<const Tensor>(saved.begin(), saved.size()));
}

void refuse_grad(const char* op, std::initializer_list<Tensor> inputs) {
  require<Unsupported>(
      !needs_grad(inputs),
      "{}: has no gradient, but an input requires one; use NoGrad, detach() the input, or call the "
      "composed op",
      op);
}

}  // namespace candela
