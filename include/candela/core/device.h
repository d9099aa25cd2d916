#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <candela/core/storage.h>

/// Devices and the registry of those that this build has and this machine offers.
namespace candela {

/// A point in the order of a device's work.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  virtual ~Event() = default;

  /// Blocks until everything enqueued before it is done; throws DeviceError if any of that failed.
  virtual void wait() = 0;
};

/// In bytes; `total` is 0 where the device does not tell.
struct DeviceMemory {
  std::size_t free = 0, total = 0;
};

/// Enqueued work that can be enqueued again, in the same memory.
class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  virtual ~Recording() = default;

  virtual void replay() = 0;
};

/// What a device must offer to the core: memory, copies, and points to wait for.
class DeviceInterface {
 public:
  DeviceInterface() = default;
  DeviceInterface(const DeviceInterface&) = delete;
  DeviceInterface& operator=(const DeviceInterface&) = delete;
  virtual ~DeviceInterface() = default;

  virtual Allocator& allocator() = 0;
  /// Waits until all work given to the device is done; throws DeviceError if any of it failed.
  virtual void synchronize() = 0;
  /// Copies `from` to byte `offset` of `to`, in stream order. Does not wait: `from` may change once it
  /// returns.
  virtual void copy_in(const Storage& to, std::size_t offset, std::span<const std::byte> from) = 0;
  /// Copies from byte `offset` of `from`, in stream order: later work may write there. `to` holds the bytes
  /// once the event is done, and must stay until then.
  virtual std::unique_ptr<Event> copy_out(const Storage& from, std::size_t offset,
                                          std::span<std::byte> to) = 0;
  /// The point behind everything enqueued so far. By default its wait() is synchronize().
  virtual std::unique_ptr<Event> record_event();
  /// What the device could still give, cached blocks not counted, and what it has.
  virtual DeviceMemory memory() const = 0;
  /// Makes `work` repeatable. A device that records calls it once, now, and enqueues nothing; by default it
  /// is called at every replay. So `work` must enqueue the same ops on the same tensors each time, must not
  /// read values on the host, and takes what changes from device tensors. The recording keeps the memory that
  /// `work` allocates to itself, and shares it with `beside`, an earlier recording of this device: nothing in
  /// that memory outlives the replay that made it.
  virtual std::unique_ptr<Recording> record(std::function<void()> work, const Recording* beside = nullptr);
  /// Whether a replay repeats the work without calling it.
  virtual bool records() const { return false; }
  /// Whether it only stands in for hardware, as the emulated Metal device does.
  virtual bool stand_in() const { return false; }
  /// Whether tensors have values: false for the plan device.
  virtual bool computes() const { return true; }
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

/// Every device that can be used here; the CPU is always first. Plan devices (see DeviceType::Plan) are not
/// listed.
std::vector<Device> available_devices();

/// What "auto" means: the first GPU that is no stand-in, else the CPU.
Device default_device();

}  // namespace candela
