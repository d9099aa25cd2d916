#pragma once

#include <memory>
#include <string>
#include <vector>

#include <candela/core/storage.h>

/// Devices and the registry of those that this build has and this machine offers.
namespace candela {

/// What a device must offer to the core: memory, and a point to wait for its work.
class DeviceInterface {
 public:
  DeviceInterface() = default;
  DeviceInterface(const DeviceInterface&) = delete;
  DeviceInterface& operator=(const DeviceInterface&) = delete;
  virtual ~DeviceInterface() = default;

  virtual Allocator& allocator() = 0;
  /// Waits until all work given to the device is done; throws DeviceError if any of it failed.
  virtual void synchronize() = 0;
  /// Whether Storage::data() may be dereferenced by the host (after synchronize()).
  virtual bool host_accessible() const = 0;
  /// For people, and the key under which measurements of this device are kept: "Intel Xeon, 2 threads, AVX3".
  virtual std::string description() const = 0;
  /// A storage over host memory (a mapped file, say) without a copy, or null if the device cannot. `owner`
  /// keeps the memory alive.
  virtual StoragePtr wrap_host(void* data, std::size_t bytes, std::shared_ptr<const void> owner) = 0;
};

/// The interface of `device`; throws DeviceError if this build or machine lacks it. Thread-safe.
DeviceInterface& device_interface(Device device);

/// Every device that can be used here; the CPU is always first. The plan device (see DeviceType::Plan) is not
/// listed.
std::vector<Device> available_devices();

}  // namespace candela
