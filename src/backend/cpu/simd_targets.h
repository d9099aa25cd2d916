#pragma once

/// Include before <hwy/highway.h> (and before foreach_target.h): which instruction sets the kernels are
/// compiled for. The baseline of the platform always stays; between it and AVX2 nothing is worth the build
/// time.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
