#include <memory>

#include <candela/core/error.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"
#include "backend/plan/device.h"
#if defined(CANDELA_METAL)
#include "backend/metal/device.h"
#endif

namespace candela {
namespace {

/// The device registry. Built on first use, never changed after. What else outlives a call, in all of the
/// library: the thread team, its queue and its size (core/parallel.cpp); whether this thread records
/// gradients, the number of the next op, and the nodes that await their end (core/grad.cpp); which fallbacks
/// were logged (selector.cpp); what was measured, where tuning is on (tuning.cpp); oneDNN's primitives of the
/// latest shapes, per thread, and its own cache's capacity (cpu/gemm_onednn.cpp); the number of the next
/// temporary file (core/atomic_file.cpp); the number of the next Metal engine and, per thread, the commands
/// it waits for (metal/engine.cpp).
struct Registry {
  std::unique_ptr<Backend> cpu = make_cpu_backend();
  std::unique_ptr<Backend> plan = make_plan_backend();
  std::vector<std::unique_ptr<Backend>> metal;

  Registry() {
#if defined(CANDELA_METAL)
    metal = make_metal_backends(*cpu);
#endif
  }
};

Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

Backend& backend(Device device) {
  Registry& all = registry();
  if (device.type == DeviceType::Cpu) return *all.cpu;
  if (device.type == DeviceType::Plan) return *all.plan;
  if (device.type == DeviceType::Metal && static_cast<std::size_t>(device.index) < all.metal.size()) {
    return *all.metal[static_cast<std::size_t>(device.index)];
  }
  throw DeviceError(fmt::format(
      "device: {} is not available in this build on this machine; `candela devices` lists what is", device));
}

DeviceInterface& device_interface(Device device) {
  return backend(device);
}

std::vector<Device> available_devices() {
  std::vector<Device> devices = {Device::cpu()};
  for (std::size_t i = 0; i < registry().metal.size(); ++i)
    devices.push_back(Device::metal(static_cast<int>(i)));
  return devices;
}

}  // namespace candela
