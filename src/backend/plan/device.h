#pragma once

#include <memory>

#include "backend/backend.h"

namespace candela {

/// The plan device of `of`: tensors on it have sizes but no memory, ops on it run nothing. What a training
/// step does on it tells the memory that the same step takes on `of`, through the same allocator, the
/// workspace of `kernels` included.
std::unique_ptr<Backend> make_plan_backend(Device of, const KernelTable& kernels);

}  // namespace candela
