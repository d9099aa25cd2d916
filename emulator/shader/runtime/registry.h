#pragma once
// Where the generated code enters what it holds, before main.

#include "../kernel.h"

namespace emulator {

void register_kernel(const Kernel& kernel);
void register_source(const ShaderSource& source);

}  // namespace emulator
