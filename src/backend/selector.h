#pragma once

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/kernels.h"

namespace candela {

/// Says once per op and device, on standard error, that the composed reference stands in because no
/// implementation takes the arguments.
void log_composed_once(std::string_view op, Device device, const std::string& reasons);

/// Runs the first implementation of `device` that supports `args`. Returns false if there is none; then
/// `reasons` (if given) tells why, one per implementation. On the plan device every op succeeds and nothing
/// runs.
template <class Args>
bool try_run(KernelList<Args> KernelTable::*list, Device device, const Args& args,
             std::string* reasons = nullptr) {
  if (device.type == DeviceType::Plan) return true;
  Backend& on = backend(device);
  for (const Kernel<Args>& kernel : (on.kernels().*list).kernels) {
    std::string refusal = kernel.supports(args);
    if (refusal.empty()) {
      kernel.runs->fetch_add(1, std::memory_order_relaxed);
      if (device.type == DeviceType::Cpu) {
        const TeamLock lock;
        kernel.run(args, on.stream());
      } else {
        kernel.run(args, on.stream());
      }
      return true;
    }
    if (reasons != nullptr)
      *reasons += fmt::format("{}{}: {}", reasons->empty() ? "" : "; ", kernel.name, refusal);
  }
  return false;
}

/// As try_run, but throws Unsupported with the reasons of all implementations.
template <class Args>
void run(KernelList<Args> KernelTable::*list, Device device, const Args& args) {
  std::string reasons;
  if (try_run(list, device, args, &reasons)) return;
  throw Unsupported(fmt::format("{}: no implementation on {} takes these arguments ({})",
                                (backend(device).kernels().*list).op, to_string(device),
                                reasons.empty() ? "there is none" : reasons));
}

}  // namespace candela
