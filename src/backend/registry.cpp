#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <candela/core/error.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"
#include "backend/plan/device.h"
#if defined(CANDELA_CUDA)
#include "backend/cuda/device.h"
#endif
#if defined(CANDELA_METAL)
#include "backend/metal/device.h"
#endif

namespace candela {
namespace {

/// The device registry. Built on first use; add_backend() alone changes it after. What else outlives a call,
/// in all of the library: the thread team, its queue and its size (core/parallel.cpp);
/// whether this thread records gradients, the number of the next op, and the nodes that await their end
/// (core/grad.cpp); which fallbacks were logged (selector.cpp); what was measured, where tuning is on
/// (tuning.cpp); oneDNN's primitives of the latest shapes, per thread, and its own cache's capacity
/// (cpu/gemm_onednn.cpp); the number of the next temporary file (core/atomic_file.cpp); the number of the
/// next Metal engine and, per thread, the commands it waits for (metal/engine.cpp).
class Registry {
 public:
  Registry() {
    Backend& cpu = add(Device::cpu(), make_cpu_backend());
#if defined(CANDELA_CUDA)
    for (std::unique_ptr<Backend>& cuda : make_cuda_backends())
      add(Device::cuda(count(DeviceType::Cuda)), std::move(cuda));
#endif
#if defined(CANDELA_METAL)
    for (std::unique_ptr<Backend>& metal : make_metal_backends(cpu))
      add(Device::metal(count(DeviceType::Metal)), std::move(metal));
#endif
    static_cast<void>(cpu);
  }

  /// With the plan of it.
  Backend& add(Device device, std::unique_ptr<Backend> made) {
    std::unique_ptr<Backend> plan = make_plan_backend(device, made->kernels());
    entries_.push_back({device, std::move(made), std::move(plan)});
    return *entries_.back().made;
  }
  int count(DeviceType type) const {
    return static_cast<int>(std::count_if(entries_.begin(), entries_.end(),
                                          [&](const Entry& entry) { return entry.device.type == type; }));
  }
  Backend* find(Device device) const {
    const bool plans = device.type == DeviceType::Plan;
    if (plans) device = {device.planned, device.index, DeviceType::Cpu};
    for (const Entry& entry : entries_) {
      if (entry.device == device) return plans ? entry.plan.get() : entry.made.get();
    }
    return nullptr;
  }
  std::vector<Device> devices() const {
    std::vector<Device> all;
    for (const Entry& entry : entries_) all.push_back(entry.device);
    return all;
  }

 private:
  struct Entry {
    Device device;
    std::unique_ptr<Backend> made, plan;
  };
  /// the CPU first
  std::vector<Entry> entries_;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

Backend& backend(Device device) {
  if (Backend* found = registry().find(device)) return *found;
  const bool plans = device.type == DeviceType::Plan;
  throw DeviceError(fmt::format(
      "device: {} is not available in this build on this machine; `candela devices` lists what is",
      plans ? Device{device.planned, device.index, DeviceType::Cpu} : device));
}

Device add_backend(const std::function<std::unique_ptr<Backend>(Device)>& make) {
  const Device device = Device::custom(registry().count(DeviceType::Custom));
  registry().add(device, make(device));
  return device;
}

DeviceInterface& device_interface(Device device) {
  return backend(device);
}

std::vector<Device> available_devices() {
  return registry().devices();
}

Device default_device() {
  for (const Device device : registry().devices()) {
    const bool gpu = device.type == DeviceType::Cuda || device.type == DeviceType::Metal;
    if (gpu && !backend(device).stand_in()) return device;
  }
  return Device::cpu();
}

}  // namespace candela
