#pragma once

#include <candela/core/grad.h>

namespace candela {

/// Walks the recorded ops from `loss` back and accumulates gradients into grad() of every leaf that requires
/// one. `seed` has loss's shape, dtype and device (InvalidArgument otherwise); undefined: ones. What the ops
/// saved is freed on the way: a second call on the same graph throws InvalidArgument.
void backward(const Tensor& loss, const Tensor& seed = {});

}  // namespace candela
