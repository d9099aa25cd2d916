#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/kernels.h"
#include "backend/tuning.h"

namespace candela {

/// Says once per op and device, on standard error, that the composed reference stands in because no
/// implementation takes the arguments.
void log_composed_once(std::string_view op, Device device, const std::string& reasons);

/// Why none of the list takes `args`, one reason per implementation.
template <class Args>
std::string refusals(const KernelList<Args>& list, const Args& args) {
  std::string reasons;
  for (const Kernel<Args>& kernel : list.kernels) {
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", kernel.name, kernel.supports(args));
  }
  return reasons;
}

/// The implementation that is to run: the first of the list that supports `args` and does not give way to one
/// that comes later; with tuning on, the fastest of those that support them. Null if there is none.
template <class Args>
const Kernel<Args>* choose(const KernelList<Args>& list, Backend& on, const Args& args) {
  const Kernel<Args>* first = nullptr;
  std::vector<const Kernel<Args>*> able;
  const bool tuned = Tuning::instance().enabled();
  for (const Kernel<Args>& kernel : list.kernels) {
    if (!kernel.supports(args).empty()) continue;
    const bool gives_way = kernel.gives_way(args);
    if (!tuned && !gives_way) return &kernel;
    if (first == nullptr || (first->gives_way(args) && !gives_way)) first = &kernel;
    if (!kernel.last_resort) able.push_back(&kernel);
  }
  if (able.size() < 2) return first;
  const std::string key = tuning_key(args);
  if (key.empty()) return first;
  const std::string device = on.description();
  if (const std::optional<TunedChoice> known = Tuning::instance().find(device, key)) {
    for (const Kernel<Args>* kernel : able) {
      if (kernel->name == known->implementation) return kernel;
    }
  }
  // Inside a parallel loop the threads would measure each other.
  if (in_parallel()) return first;
  std::vector<TuningCandidate> candidates;
  candidates.reserve(able.size());
  for (const Kernel<Args>* kernel : able) {
    candidates.push_back({kernel->name, [kernel, &args, &on] {
                            kernel->run(args, on.stream());
                            on.synchronize();
                          }});
  }
  return able[tune(device, key, candidates)];
}

/// What the CPU's kernel for `args` takes while it runs, the one that choose() picks there with tuning off.
/// Looks at no data.
template <class Args>
ScratchBlocks scratch_of(KernelList<Args> KernelTable::*list, const Args& args) {
  const std::vector<Kernel<Args>>& kernels = (backend(Device::cpu()).kernels().*list).kernels;
  const auto known = [](const Kernel<Args>& kernel) { return kernel.scratch != nullptr; };
  if (std::none_of(kernels.begin(), kernels.end(), known)) return {};
  const Kernel<Args>* taken = nullptr;
  for (const Kernel<Args>& kernel : kernels) {
    if (!kernel.supports(args).empty()) continue;
    if (taken == nullptr || !kernel.gives_way(args)) taken = &kernel;
    if (!taken->gives_way(args)) break;
  }
  return taken != nullptr && known(*taken) ? taken->scratch(args) : ScratchBlocks();
}

/// Takes from the plan device what a kernel would take, and gives it back.
void plan_scratch(const ScratchBlocks& blocks);

/// Runs the chosen implementation of `device`. Returns false if none supports `args`; then `reasons` (if
/// given) tells why. On the plan device every op succeeds and nothing runs.
template <class Args>
bool try_run(KernelList<Args> KernelTable::*list, Device device, const Args& args,
             std::string* reasons = nullptr) {
  if (device.type == DeviceType::Plan) {
    plan_scratch(scratch_of(list, args));
    return true;
  }
  Backend& on = backend(device);
  std::optional<TeamLock> lock;
  if (device.type == DeviceType::Cpu) lock.emplace();
  const Kernel<Args>* kernel = choose(on.kernels().*list, on, args);
  if (kernel == nullptr) {
    // Not before: to put the reasons into words takes as long as a small op.
    if (reasons != nullptr) *reasons = refusals(on.kernels().*list, args);
    return false;
  }
  kernel->runs->fetch_add(1, std::memory_order_relaxed);
  kernel->run(args, on.stream());
  return true;
}

/// As try_run, but throws Unsupported with the reasons of all implementations.
template <class Args>
void run(KernelList<Args> KernelTable::*list, Device device, const Args& args) {
  std::string reasons;
  if (try_run(list, device, args, &reasons)) return;
  throw Unsupported(fmt::format("{}: no implementation on {} takes these arguments ({})",
                                (backend(device).kernels().*list).op, device,
                                reasons.empty() ? "there is none" : reasons));
}

}  // namespace candela
