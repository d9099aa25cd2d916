#include <utility>

#include <candela/autograd/backward.h>
#include <candela/autograd/checkpoint.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>

namespace candela {
namespace {

/// Puts a generator back to `offset` while it lives.
class Rewound {
 public:
  Rewound(Generator* random, std::uint64_t offset) : random_(random) {
    if (random_ == nullptr) return;
    now_ = random_->offset();
    random_->set_offset(offset);
  }
  Rewound(const Rewound&) = delete;
  Rewound& operator=(const Rewound&) = delete;
  ~Rewound() {
    if (random_ != nullptr) random_->set_offset(now_);
  }

 private:
  Generator* random_;
  std::uint64_t now_ = 0;
};

/// A checkpointed call as its node keeps it.
struct Call {
  CheckpointedBlock block;
  std::vector<SavedTensor> inputs;
  std::vector<bool> needed;  // of each input: whether its gradient is asked for
  Generator* random;
  std::uint64_t offset;  // of `random` when the block ran

  std::vector<Tensor> gradients(std::span<const Tensor> grads) const {
    std::vector<Tensor> leaves;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      leaves.push_back(inputs[i].defined() ? inputs[i].get().detach() : Tensor());
      if (needed[i]) leaves.back().set_requires_grad(true);
    }
    std::vector<Tensor> results;
    {
      const WithGrad recording;
      const Rewound at(random, offset);
      results = block(leaves);
    }
    std::vector<Tensor> reached;
    std::vector<Tensor> seeds;
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined() || !results[i].requires_grad()) continue;
      reached.push_back(std::move(results[i]));
      seeds.push_back(grads[i]);
    }
    results.clear();
    backward(reached, seeds);
    std::vector<Tensor> input_grads;
    for (std::size_t i = 0; i < leaves.size(); ++i)
      input_grads.push_back(needed[i] ? leaves[i].grad() : Tensor());
    return input_grads;
  }
};

}  // namespace

std::vector<Tensor> checkpoint(std::string name, CheckpointedBlock block, std::span<const Tensor> inputs,
                               Generator* random) {
  if (!grad_enabled()) return block(inputs);
  const std::uint64_t offset = random != nullptr ? random->offset() : 0;
  std::vector<Tensor> results;
  std::vector<Tensor> tracked;
  {
    const GradProbe probe;
    results = block(inputs);
    tracked = probe.seen();
  }
  for (Tensor& result : results) {
    require<Error>(result.defined(), "checkpoint: {} gave an undefined result", name);
    result = result.detach();  // it may be one of the inputs
  }
  if (tracked.empty()) return results;
  Call call{std::move(block), {}, {}, random, offset};
  std::vector<Tensor> saved;
  for (const Tensor& tensor : tracked) {
    if (!tensor.grad_node()) saved.push_back(tensor.detach());  // a parameter; an input follows as it is kept
  }
  for (const Tensor& input : inputs) {
    call.inputs.emplace_back(input);
    call.needed.push_back(input.requires_grad());
    call.inputs.back().append_reads(saved);
  }
  std::vector<Tensor*> outputs;
  for (Tensor& result : results) outputs.push_back(&result);
  record(
      std::move(name), std::vector<Tensor>(inputs.begin(), inputs.end()), std::move(outputs),
      [call = std::move(call)](std::span<const Tensor> grads) { return call.gradients(grads); },
      std::span<const Tensor>(saved));
  return results;
}

}  // namespace candela
