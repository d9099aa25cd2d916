#pragma once

#include <memory>

#include "backend/backend.h"

namespace candela {

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace candela
