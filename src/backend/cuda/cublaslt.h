#pragma once

#include <memory>
#include <string>

#include "backend/args/matmul.h"

namespace candela::cuda {

class CudaStream;

/// Matrix products by cuBLASLt. Its algorithm for operands of given sizes, strides and alignment is the first
/// that the library's heuristic names, asked once and kept: the same operands give the same bits.
class Blas {
 public:
  /// Null where the library is not installed, or $CANDELA_CUDA_BLAS is "0".
  static std::unique_ptr<Blas> open(CudaStream& stream);
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;
  virtual ~Blas() = default;

  /// Why cuBLASLt does not take these operands; empty if it does.
  static std::string supports(const MatmulArgs& args);
  /// Enqueues the product. False, and nothing enqueued, if the library has no algorithm for it.
  virtual bool run(const MatmulArgs& args) = 0;

 protected:
  Blas() = default;
};

}  // namespace candela::cuda
