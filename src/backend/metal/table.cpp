#include "backend/metal/table.h"

#include <candela/core/error.h>

#include "backend/selector.h"

namespace candela::metal {
namespace {

template <class Args>
Args args_of(KernelList<Args> KernelTable::*);

/// The list of the CPU with the same name takes part where no kernel of the GPU does: the memory is shared.
template <auto kList>
struct Host {
  using Args = decltype(args_of(kList));

  static std::string supports(const Args& args) {
    std::string reasons;
    for (const Kernel<Args>& kernel : (backend(Device::cpu()).kernels().*kList).kernels) {
      const std::string refusal = kernel.supports(args);
      if (refusal.empty()) return {};
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", kernel.name, refusal);
    }
    return reasons.empty() ? "the CPU has no implementation" : reasons;
  }

  static void run(const Args& args, Stream& stream) {
    Engine& engine = static_cast<Engine&>(stream);
    engine.synchronize();
    engine.counters().host_runs.fetch_add(1, std::memory_order_relaxed);
    candela::run(kList, Device::cpu(), args);
  }
};

/// What the CPU's kernels multiply matrices with is no op that is called on this device.
template <auto kList>
constexpr bool kIsOp = true;
template <>
constexpr bool kIsOp<&KernelTable::gemm> = false;

#if defined(CANDELA_MPS)
/// A device that cannot run the test can still run shaders, or will say so later.
bool softmax_is_trusted(Engine& engine) {
  try {
    return mps_softmax_holds(engine);
  } catch (const DeviceError&) {
    return false;
  }
}
#endif

}  // namespace

void fill_table(KernelTable& table, Engine& engine, Backend& cpu) {
#if defined(CANDELA_MPS)
  const bool mps = engine.device().supports_mps();
  const Offer offer{mps, mps && softmax_is_trusted(engine)};
#else
  const Offer offer{};
  (void)engine;
#endif
  fill_attention(table, offer);
  fill_copy(table, offer);
  fill_elementwise(table, offer);
  fill_gather(table, offer);
  fill_lora(table, offer);
  fill_loss(table, offer);
  fill_matmul(table, offer);
  fill_norm(table, offer);
  fill_optimizer(table, offer);
  fill_random(table, offer);
  fill_reduce(table, offer);
  fill_rope(table, offer);
  fill_softmax(table, offer);
  fill_topk(table, offer);
  KernelTable::for_each_list([&]<auto kList>() {
    if (kIsOp<kList> && !(cpu.kernels().*kList).kernels.empty())
      (table.*kList).add("host", Host<kList>::supports, Host<kList>::run).last_resort = true;
  });
}

}  // namespace candela::metal
