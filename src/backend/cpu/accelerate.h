#pragma once

#if defined(__APPLE__)
// The one function of Apple's Accelerate that is used, and the constants of CBLAS that it takes. Its own
// header calls it deprecated unless the whole program chooses another integer width, and not every folder of
// SDK headers has it.
extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);

namespace candela {

inline constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;

}  // namespace candela
#endif
