#pragma once

#include <candela/core/device.h>

namespace candela {

struct KernelTable;

/// An ordered queue of work on a device.
class Stream {
 public:
  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream() = default;

  /// Waits for all work given so far; throws DeviceError if any of it failed.
  virtual void synchronize() = 0;
};

/// A device with what the ops need of it.
class Backend : public DeviceInterface {
 public:
  virtual Stream& stream() = 0;
  virtual const KernelTable& kernels() const = 0;
  void synchronize() override { stream().synchronize(); }
};

/// The backend of `device`; throws DeviceError if there is none. Thread-safe.
Backend& backend(Device device);

}  // namespace candela
