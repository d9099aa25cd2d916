#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"

namespace candela {

/// The Metal devices of this machine; empty where there is none. `cpu` runs the ops that have no Metal
/// implementation.
std::vector<std::unique_ptr<Backend>> make_metal_backends(Backend& cpu);

}  // namespace candela
