#include "backend/metal/table.h"

#include <type_traits>

namespace candela::metal {
namespace {

/// The list of `table` that holds implementations for Args.
template <class Args>
const KernelList<Args>& list_for(const KernelTable& table) {
  const KernelList<Args>* found = nullptr;
  KernelTable names;  // only walked along
  names.for_each_with(table, [&](const auto&, const auto& list) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(list)>, KernelList<Args>>) found = &list;
  });
  return *found;
}

template <class Args>
const Kernel<Args>* cpu_kernel_for(const Args& args, std::string* reasons) {
  for (const Kernel<Args>& kernel : list_for<Args>(backend(Device::cpu()).kernels()).kernels) {
    const std::string refusal = kernel.supports(args);
    if (refusal.empty()) return &kernel;
    if (reasons != nullptr)
      *reasons += fmt::format("{}{}: {}", reasons->empty() ? "" : "; ", kernel.name, refusal);
  }
  return nullptr;
}

template <class Args>
std::string host_supports(const Args& args) {
  std::string reasons;
  if (cpu_kernel_for(args, &reasons) != nullptr) return {};
  return reasons.empty() ? "the CPU has no implementation" : reasons;
}

template <class Args>
void host_run(const Args& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  engine.synchronize();
  engine.counters().host_runs.fetch_add(1, std::memory_order_relaxed);
  cpu_kernel_for(args, nullptr)->run(args, backend(Device::cpu()).stream());
}

}  // namespace

void fill_table(KernelTable& table, Engine& engine, Backend& cpu) {
#if defined(CANDELA_MPS)
  const Offer offer{engine.device().supports_mps()};
#else
  const Offer offer{};
  (void)engine;
#endif
  fill_copy(table, offer);
  fill_elementwise(table, offer);
  fill_gather(table, offer);
  fill_lora(table, offer);
  fill_matmul(table, offer);
  fill_norm(table, offer);
  fill_optimizer(table, offer);
  fill_reduce(table, offer);
  fill_softmax(table, offer);
  fill_topk(table, offer);
  KernelTable host = cpu.kernels();
  table.for_each_with(host, []<class Args>(KernelList<Args>& list, KernelList<Args>& on_cpu) {
    if (!on_cpu.kernels.empty()) list.add("host", host_supports<Args>, host_run<Args>).last_resort = true;
  });
}

}  // namespace candela::metal
