#include <algorithm>
#include <atomic>
#include <new>
#include <utility>

#include <candela/core/error.h>
#include <candela/core/grad.h>

namespace candela {
namespace {

thread_local bool recording = true;
thread_local bool keeping = false;
thread_local GradProbe* probe = nullptr;

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

WithGrad::WithGrad() : previous_(recording) {
  recording = true;
}

WithGrad::~WithGrad() {
  recording = previous_;
}

KeepResults::KeepResults(bool keep) : previous_(std::exchange(keeping, keep)) {}

KeepResults::~KeepResults() {
  keeping = previous_;
}

GradEdge::GradEdge(const Tensor& input) {
  if (!input.requires_grad()) return;
  node = input.grad_node();
  output = input.grad_output();
  if (node == nullptr) leaf = input;
  shape = input.shape();
  dtype = input.dtype();
  device = input.device();
}

SavedTensor::SavedTensor(const Tensor& tensor) {
  if (!tensor.defined()) return;
  if (!keeping) recipe_ = tensor.recipe();
  if (recipe_ == nullptr) tensor_ = tensor.detach();
}

Tensor SavedTensor::get() const {
  if (recipe_ == nullptr) return tensor_;
  const NoGrad guard;
  return recipe_->make();
}

void SavedTensor::append_reads(std::vector<Tensor>& saved) const {
  if (recipe_ != nullptr) saved.insert(saved.end(), recipe_->reads.begin(), recipe_->reads.end());
  if (tensor_.defined()) saved.push_back(tensor_);
}

GradProbe::GradProbe() : previous_(recording), outer_(probe) {
  recording = false;
  probe = this;
}

GradProbe::~GradProbe() {
  recording = previous_;
  probe = outer_;
}

void GradProbe::note(const Tensor& input) {
  const bool known = std::any_of(seen_.begin(), seen_.end(),
                                 [&](const Tensor& other) { return other.storage() == input.storage(); });
  if (!known) seen_.push_back(input);
}

bool needs_grad(std::span<const Tensor> inputs) {
  if (!recording && probe == nullptr) return false;
  bool any = false;
  for (const Tensor& input : inputs) {
    if (!input.requires_grad()) continue;
    any = true;
    if (!recording) probe->note(input);
  }
  return any && recording;
}

bool needs_grad(std::initializer_list<Tensor> inputs) {
  return needs_grad(std::span<const Tensor>(inputs.begin(), inputs.size()));
}

GradNode::~GradNode() {
  // The edges of the nodes whose destructors have begun, freed one after the other by the first of them.
  thread_local std::vector<std::vector<GradEdge>>* pending = nullptr;
  if (edges.empty()) return;
  if (pending != nullptr) {
    try {
      pending->push_back(std::move(edges));
    } catch (const std::bad_alloc&) {
      // Then the edges go with this node, one recursion deeper.
    }
    return;
  }
  std::vector<std::vector<GradEdge>> mine;
  pending = &mine;
  edges.clear();
  while (!mine.empty()) {
    std::vector<GradEdge> next = std::move(mine.back());
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
  node->edges.reserve(inputs.size());
  for (const Tensor& input : inputs) node->edges.emplace_back(input);
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
