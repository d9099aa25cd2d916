#pragma once

#include "backend/cuda/operand.h"
#include "backend/cuda/stream.h"
#include "backend/kernels.h"

namespace candela::cuda {

/// What the families' files learn of the device when they fill their lists.
struct Offer {
  /// cuBLASLt is there
  bool blas = false;
  /// cuDNN's attention is
  bool cudnn = false;
};

/// One function per op family, each in the file of that name.
void fill_attention(KernelTable& table, const Offer& offer);
void fill_copy(KernelTable& table, const Offer& offer);
void fill_elementwise(KernelTable& table, const Offer& offer);
void fill_gather(KernelTable& table, const Offer& offer);
void fill_lora(KernelTable& table, const Offer& offer);
void fill_loss(KernelTable& table, const Offer& offer);
void fill_matmul(KernelTable& table, const Offer& offer);
void fill_norm(KernelTable& table, const Offer& offer);
void fill_optimizer(KernelTable& table, const Offer& offer);
void fill_random(KernelTable& table, const Offer& offer);
void fill_reduce(KernelTable& table, const Offer& offer);
void fill_rope(KernelTable& table, const Offer& offer);
void fill_softmax(KernelTable& table, const Offer& offer);
void fill_topk(KernelTable& table, const Offer& offer);

void fill_table(KernelTable& table, const Offer& offer);

/// Adds kRun(args, stream, memory), which both states and takes its workspace: given a measuring one and no
/// stream, it takes its arrays and returns.
template <auto kRun, class Args>
Kernel<Args>& add_measured(KernelList<Args>& list, std::string_view name,
                           typename Kernel<Args>::Supports supports) {
  return list.add(
      name, supports,
      [](const Args& args) {
        return measured_workspace([&](Workspace memory) { kRun(args, nullptr, memory); });
      },
      [](const Args& args, Stream& stream, Workspace memory) { kRun(args, &stream_of(stream), memory); });
}

/// Enqueues out = alpha a b + beta out (+ bias): by cuBLASLt where it takes the operands, else by the native
/// kernel. a and b may differ in dtype, then the native kernel takes them.
void enqueue_product(CudaStream& stream, const MatmulArgs& args);
inline MatmulArgs product(const TensorArg& a, const TensorArg& b, const TensorArg& out, double alpha = 1,
                          double beta = 0) {
  return {a, b, out, {}, alpha, beta};
}

}  // namespace candela::cuda
