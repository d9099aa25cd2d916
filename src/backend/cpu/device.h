#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace candela {

std::unique_ptr<Backend> make_cpu_backend();

/// What was chosen for this processor, as names and values for people: {"product library", "oneDNN 2.6.3"}.
std::vector<std::pair<std::string, std::string>> cpu_details(const KernelTable& kernels);

}  // namespace candela
