#pragma once

#include "backend/backend.h"

namespace candela {

/// Memory that a kernel needs while it runs, from the CPU's caching allocator: counted in its statistics,
/// aligned to 64 bytes.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::int64_t count)
      : storage_(backend(Device::cpu())
                     .allocator()
                     .allocate(static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T))) {}
  T* data() const { return storage_ ? static_cast<T*>(storage_->data()) : nullptr; }

 private:
  StoragePtr storage_;
};

}  // namespace candela
