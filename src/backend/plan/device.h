#pragma once

#include <memory>

#include "backend/backend.h"

namespace candela {

/// The device that only counts: tensors on it have sizes but no memory, ops on it run nothing. What a
/// training step does on it tells the memory that the same step takes on a real device, through the same
/// allocator.
std::unique_ptr<Backend> make_plan_backend();

}  // namespace candela
