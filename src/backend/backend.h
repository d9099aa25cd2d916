#pragma once

#include <functional>
#include <memory>

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

/// A non-owning reference to a callable `void()`.
class OpCall {
 public:
  template <class F>
  explicit OpCall(F& function)
      : object_(const_cast<void*>(static_cast<const void*>(&function))),
        call_([](void* object) { (*static_cast<F*>(object))(); }) {}
  void operator()() const { call_(object_); }

 private:
  void* object_;
  void (*call_)(void*);
};

/// A device with what the ops need of it.
class Backend : public DeviceInterface {
 public:
  virtual Stream& stream() = 0;
  virtual const KernelTable& kernels() const = 0;
  void synchronize() override { stream().synchronize(); }
  /// Calls `op`, which selects a kernel and launches it, under whatever the device's ops exclude each other
  /// by.
  virtual void dispatch(const OpCall& op) { op(); }
  /// Whether work is being recorded: it must not be waited for, nor measured.
  virtual bool recording() const { return false; }
  /// The kernels that this device plans for: ops allocate their workspace and run nothing. Null on devices
  /// that compute.
  virtual const KernelTable* planned() const { return nullptr; }
};

/// The backend of `device`; throws DeviceError if there is none. Thread-safe.
Backend& backend(Device device);

/// Adds a device for the rest of the process, and the plan of it. For programs that bring their own, as tests
/// do: to be called before any other thread uses the library.
Device add_backend(const std::function<std::unique_ptr<Backend>(Device)>& make);

}  // namespace candela
