#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"

namespace candela {

/// The NVIDIA devices of this machine, in the driver's order; empty where there is no driver or no GPU.
std::vector<std::unique_ptr<Backend>> make_cuda_backends();

}  // namespace candela
