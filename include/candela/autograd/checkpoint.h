#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>

namespace candela {

/// Part of a network: tensors in, tensors out, the same bits whenever it runs on the same values.
using CheckpointedBlock = std::function<std::vector<Tensor>(std::span<const Tensor> inputs)>;

/// Runs `block` on `inputs` and keeps the inputs alone; backward() runs it again, with `random` (null: the
/// block draws nothing) as it was, and goes on through what that records (Chen et al., 2016, "Training Deep
/// Nets with Sublinear Memory Cost"). Results and gradients have the bits of block(inputs). Undefined inputs
/// are passed on; results must be defined (Error). Parameters that the block reads beside its inputs get
/// their gradients too. What the block captures, `random` included, must live until then; changing an input
/// or a parameter in place before backward() is an error there. Without gradients it is block(inputs).
std::vector<Tensor> checkpoint(std::string name, CheckpointedBlock block, std::span<const Tensor> inputs,
                               Generator* random = nullptr);

}  // namespace candela
