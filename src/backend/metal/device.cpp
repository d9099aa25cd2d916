#include "backend/metal/device.h"

#include <algorithm>
#include <string_view>

#include <candela/core/error.h>
#include <candela/core/process.h>

#include "backend/kernels.h"
#include "backend/metal/engine.h"
#include "backend/metal/memory.h"
#include "backend/metal/table.h"
#include "backend/metal/transfer.h"

namespace candela {
namespace metal {
namespace {

// Stands wherever figures of this device are printed or kept.
#if defined(CANDELA_EMULATED_METAL)
constexpr std::string_view kEmulated = ", emulated on the CPU: no figure here is a GPU's";
#else
constexpr std::string_view kEmulated;
#endif

class MetalBackend final : public Backend {
 public:
  MetalBackend(const objc::Device& device, Backend& cpu)
      : engine_(std::make_shared<Engine>(device, EngineLimits{})),
        allocator_(Device::metal(), std::make_unique<MetalMemory>(engine_)) {
    engine_->set_trim([this] { allocator_.trim(); });
    fill_table(kernels_, *engine_, cpu);
  }
  ~MetalBackend() override { engine_->set_trim({}); }

  Allocator& allocator() override { return allocator_; }
  Stream& stream() override { return *engine_; }
  const KernelTable& kernels() const override { return kernels_; }
  bool host_accessible() const override { return true; }
  bool stand_in() const override { return !kEmulated.empty(); }
  void copy_in(const Storage& to, std::size_t offset, std::span<const std::byte> from) override {
    metal::copy_in(*engine_, to, offset, from);
  }
  std::unique_ptr<Event> copy_out(const Storage& from, std::size_t offset, std::span<std::byte> to) override {
    return metal::copy_out(engine_, from, offset, to);
  }
  /// The system's memory is the device's: whichever runs out first.
  DeviceMemory memory() const override {
    const std::size_t total = engine_->device().recommended_working_set();
    const std::size_t free = total - std::min(total, engine_->device().allocated());
    const std::size_t system = available_memory();
    return {system == 0 ? free : std::min(free, system), total};
  }
  std::string description() const override {
    return fmt::format("{}, working set {} MiB{}", engine_->device().name(),
                       engine_->device().recommended_working_set() >> 20U, kEmulated);
  }
  StoragePtr wrap_host(void* data, std::size_t bytes, std::shared_ptr<const void> owner) override {
    return wrap_host_memory(engine_, Device::metal(), data, bytes, std::move(owner));
  }
  Counters read_counters() const { return engine_->counters().read(); }

 private:
  std::shared_ptr<Engine> engine_;
  CachingAllocator allocator_;
  KernelTable kernels_;
};

}  // namespace

Counters counters(Device device) {
  require<DeviceError>(device.type == DeviceType::Metal, "metal counters: {} is not a Metal device", device);
  return static_cast<const MetalBackend&>(backend(device)).read_counters();
}

}  // namespace metal

std::vector<std::unique_ptr<Backend>> make_metal_backends(Backend& cpu) {
  std::vector<std::unique_ptr<Backend>> backends;
  metal::objc::Device device = metal::objc::Device::system_default();
  // Discrete GPUs of older Macs copy over a bus: every assumption about unified memory would be wrong there.
  if (device && device.unified_memory() && device.has_simdgroup_matrix()) {
    backends.push_back(std::make_unique<metal::MetalBackend>(device, cpu));
  }
  return backends;
}

}  // namespace candela
