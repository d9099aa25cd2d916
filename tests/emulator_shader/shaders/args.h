#pragma once
// Parameters of the test shaders, shared with the host.
#ifndef __METAL_VERSION__
#include <cstdint>
namespace shader_args {
using uint = std::uint32_t;
#else
namespace shader_args {
#endif

struct Matmul {
  uint m, n, k;
  float alpha;
};

struct Norm {
  uint columns;
  float epsilon;
};

}  // namespace shader_args
