#pragma once

/// Include before <hwy/highway.h> (and before foreach_target.h): which instruction sets the kernels are
/// compiled for. The baseline of the platform always stays (SSE4.2 on x86, as cmake/compiler.cmake says, but
/// without the cipher instructions that Highway would have with it); between it and AVX2 nothing is worth the
/// build time. The kernels keep vectors in structs and arrays, which those without a size when compiled (SVE,
/// RISC-V's) cannot be in.
#define HWY_DISABLE_PCLMUL_AES
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
