#pragma once

#include "backend/backend.h"
#include "backend/kernels.h"
#include "backend/metal/engine.h"

namespace candela::metal {

/// What the families' files learn of the build and the device when they fill their lists.
struct Offer {
  /// Metal Performance Shaders are built in and the device has them
  bool mps = false;
  /// and MPS's softmax keeps NaN and minus infinity (mps_softmax_holds)
  bool mps_softmax = false;
};

/// Whether MPS's softmax and log softmax give what the ops promise for rows with NaN, with minus infinity and
/// of nothing else: Apple does not say, and a kernel built with fast-math would not. Runs both, and waits.
bool mps_softmax_holds(Engine& engine);

/// One function per op family with own or MPS implementations, each in the file of that name.
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

/// Adds kRun(args, engine, memory), which both states and takes its workspace: given a measuring one and no
/// engine, it takes its arrays and returns.
template <auto kRun, class Args>
Kernel<Args>& add_measured(KernelList<Args>& list, std::string_view name,
                           typename Kernel<Args>::Supports supports) {
  return list.add(
      name, supports,
      [](const Args& args) {
        return measured_workspace([&](Workspace memory) { kRun(args, nullptr, memory); });
      },
      [](const Args& args, Stream& stream, Workspace memory) {
        kRun(args, &static_cast<Engine&>(stream), memory);
      });
}

/// Fills every list: Metal implementations first, then `host`, which waits for the GPU and runs `cpu`'s
/// kernel on the unified memory.
void fill_table(KernelTable& table, Engine& engine, Backend& cpu);

}  // namespace candela::metal
