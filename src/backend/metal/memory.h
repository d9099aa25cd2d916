#pragma once

#include <memory>
#include <mutex>

#include <candela/core/storage.h>

#include "backend/metal/engine.h"

namespace candela::metal {

/// Blocks of unified memory: an MTLBuffer each, the small ones out of one heap, so that they do not take a
/// page apiece. Stays within the device's recommended working set.
class MetalMemory final : public MemorySource {
 public:
  explicit MetalMemory(std::shared_ptr<Engine> engine);

  MemoryBlock acquire(std::size_t bytes) override;
  void release(const MemoryBlock& block) override;

 private:
  objc::Buffer take(std::size_t bytes);

  std::shared_ptr<Engine> engine_;
  objc::Heap heap_;
};

/// A storage over host memory without a copy, or null where the alignment (16 KiB pages), the longest buffer,
/// the working set or the system does not allow it.
StoragePtr wrap_host_memory(const std::shared_ptr<Engine>& engine, Device device, void* data,
                            std::size_t bytes, std::shared_ptr<const void> owner);

}  // namespace candela::metal
