#pragma once

#include "backend/backend.h"
#include "backend/kernels.h"
#include "backend/metal/engine.h"

namespace candela::metal {

/// What the families' files learn of the build and the device when they fill their lists.
struct Offer {
  /// Metal Performance Shaders are built in and the device has them
  bool mps = false;
};

/// One function per op family with own or MPS implementations, each in the file of that name.
void fill_copy(KernelTable& table, const Offer& offer);
void fill_elementwise(KernelTable& table, const Offer& offer);
void fill_gather(KernelTable& table, const Offer& offer);
void fill_lora(KernelTable& table, const Offer& offer);
void fill_matmul(KernelTable& table, const Offer& offer);
void fill_norm(KernelTable& table, const Offer& offer);
void fill_optimizer(KernelTable& table, const Offer& offer);
void fill_reduce(KernelTable& table, const Offer& offer);
void fill_softmax(KernelTable& table, const Offer& offer);
void fill_topk(KernelTable& table, const Offer& offer);

/// Fills every list: Metal implementations first, then `host`, which waits for the GPU and runs `cpu`'s
/// kernel on the unified memory.
void fill_table(KernelTable& table, Engine& engine, Backend& cpu);

}  // namespace candela::metal
