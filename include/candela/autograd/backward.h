#pragma once

#include <candela/core/grad.h>

namespace candela {

/// Walks the recorded ops from `loss` back and accumulates gradients into grad() of every leaf that requires
/// one: a gradient that is there is added to in place, so that those of many leaves may be views of one
/// tensor. `seed` has loss's shape, dtype and device (InvalidArgument otherwise); undefined: ones. What the
/// ops saved is freed on the way: a second call on the same graph throws InvalidArgument. Threads may walk
/// side by side over graphs that share neither a node nor a leaf that requires a gradient.
void backward(const Tensor& loss, const Tensor& seed = {});

/// The same in one walk from several results, each with its seed: the gradients are those of the sum of
/// results[i] seeds[i]. `seeds` may be empty (ones), or hold undefined ones.
void backward(std::span<const Tensor> results, std::span<const Tensor> seeds);

}  // namespace candela
