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

/// Enqueues `kernel` with a workspace from the device's allocator, which is free for the work that is
/// enqueued next.
template <class Args>
void launch(const Kernel<Args>& kernel, Backend& on, const Args& args) {
  const std::size_t bytes = kernel.workspace_bytes(args);
  if (bytes == 0) return kernel.run(args, on.stream(), {});
  const StoragePtr memory = on.allocator().allocate(bytes);
  kernel.run(args, on.stream(), Workspace(*memory));
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
  // Inside a parallel loop the threads would measure each other; recorded work does not run.
  if (in_parallel() || on.recording()) return first;
  std::vector<TuningCandidate> candidates;
  candidates.reserve(able.size());
  for (const Kernel<Args>* kernel : able) {
    candidates.push_back({kernel->name, [kernel, &args, &on] {
                            launch(*kernel, on, args);
                            on.synchronize();
                          }});
  }
  return able[tune(device, key, candidates)];
}

/// Bytes of workspace of the kernel that would run for `args`: with tuning on, whichever it is. Measures
/// nothing and looks at no data.
/// None if no kernel supports them.
template <class Args>
std::optional<std::size_t> planned_workspace(const KernelList<Args>& list, const Args& args) {
  const bool tuned = Tuning::instance().enabled();
  const Kernel<Args>* taken = nullptr;
  std::size_t most = 0;
  for (const Kernel<Args>& kernel : list.kernels) {
    if (!kernel.supports(args).empty()) continue;
    if (tuned && !kernel.last_resort) most = std::max(most, kernel.workspace_bytes(args));
    if (taken == nullptr || (taken->gives_way(args) && !kernel.gives_way(args))) taken = &kernel;
    if (!tuned && !taken->gives_way(args)) break;
  }
  if (taken == nullptr) return std::nullopt;
  return std::max(most, taken->workspace_bytes(args));
}

/// The same, 0 if no kernel supports them.
template <class Args>
std::size_t workspace_bytes(const KernelList<Args>& list, const Args& args) {
  return planned_workspace(list, args).value_or(0);
}

/// Takes from the planning device `on` what the op would take while it runs. False if no kernel supports it.
template <class Args>
bool plan_run(const KernelList<Args>& list, Backend& on, const Args& args) {
  const std::optional<std::size_t> bytes = planned_workspace(list, args);
  if (bytes.value_or(0) > 0) on.allocator().allocate(*bytes);
  return bytes.has_value();
}

/// Runs the chosen implementation of `device`. Returns false if none supports `args`; then `reasons` (if
/// given) tells why. On a plan device the kernel's workspace is counted and nothing runs.
template <class Args>
bool try_run(KernelList<Args> KernelTable::*list, Device device, const Args& args,
             std::string* reasons = nullptr) {
  Backend& on = backend(device);
  bool ran = false;
  const auto op = [&] {
    if (const KernelTable* planned = on.planned()) {
      ran = plan_run(planned->*list, on, args);
      return;
    }
    const Kernel<Args>* kernel = choose(on.kernels().*list, on, args);
    ran = kernel != nullptr;
    if (!ran) return;
    kernel->runs->fetch_add(1, std::memory_order_relaxed);
    launch(*kernel, on, args);
  };
  on.dispatch(OpCall(op));
  // Not before: to put the reasons into words takes as long as a small op.
  if (!ran && reasons != nullptr)
    *reasons = refusals((on.planned() != nullptr ? *on.planned() : on.kernels()).*list, args);
  return ran;
}

/// Runs the chosen implementation of `list` as a part of another kernel of `on`, in the workspace of that
/// kernel; a measuring one counts the part's. Throws Unsupported if none takes the arguments.
template <class Args>
void run_within(KernelList<Args> KernelTable::*list, Backend& on, const Args& args, Workspace memory) {
  const KernelList<Args>& kernels = on.kernels().*list;
  if (memory.measuring()) {
    memory.take_part(workspace_bytes(kernels, args));
    return;
  }
  const Kernel<Args>* kernel = choose(kernels, on, args);
  require<Unsupported>(kernel != nullptr, "{}: no implementation takes these arguments ({})", kernels.op,
                       kernel == nullptr ? refusals(kernels, args) : "");
  kernel->runs->fetch_add(1, std::memory_order_relaxed);
  kernel->run(args, on.stream(), memory);
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
