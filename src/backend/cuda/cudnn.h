#pragma once

#include <memory>
#include <string>

#include "backend/args/attention.h"

namespace candela::cuda {

class CudaStream;

/// Attention by cuDNN's fused kernels, built where CUDNN_FRONTEND_DIR names the headers of cudnn-frontend.
/// Its plan for operands of given sizes and strides is made once and kept; the backward one is its
/// deterministic form.
class Cudnn {
 public:
  /// Null where the library is not built in or not installed, or $CANDELA_CUDA_CUDNN is "0".
  static std::unique_ptr<Cudnn> open(CudaStream& stream);
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;
  virtual ~Cudnn() = default;

  /// Why cuDNN does not take these operands; empty if it does.
  static std::string supports(const AttentionArgs& args);
  /// Enqueue the pass. `statistics` f32 [B H T] is workspace. False, and nothing enqueued, if the library has
  /// no plan for it.
  virtual bool attention(const AttentionArgs& args, float* statistics) = 0;
  virtual bool attention_grad(const AttentionGradArgs& args, float* statistics) = 0;

 protected:
  Cudnn() = default;
};

}  // namespace candela::cuda
