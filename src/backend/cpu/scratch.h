#pragma once

#include <initializer_list>

#include "backend/backend.h"
#include "backend/scratch_blocks.h"

namespace candela {

/// Memory that a kernel needs while it runs, from the CPU's caching allocator: counted in its statistics,
/// aligned to 64 bytes.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  /// Null for no elements.
  explicit Scratch(std::int64_t count) {
    if (count <= 0) return;
    storage_ = backend(Device::cpu()).allocator().allocate(static_cast<std::size_t>(count) * sizeof(T));
  }
  T* data() const { return storage_ ? static_cast<T*>(storage_->data()) : nullptr; }

 private:
  StoragePtr storage_;
};

/// Arrays of so many floats.
inline ScratchBlocks blocks_of_floats(std::initializer_list<std::int64_t> counts) {
  ScratchBlocks blocks;
  for (const std::int64_t count : counts) {
    if (count > 0) blocks.push_back(static_cast<std::size_t>(count) * sizeof(float));
  }
  return blocks;
}

}  // namespace candela
