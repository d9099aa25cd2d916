#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/metal/objc/device.h"

namespace candela::metal {

/// Indices out of range that shaders met (shaders/fault.h). A slot per command buffer in flight: a fault
/// belongs to exactly one of them.
class DataFaults {
 public:
  explicit DataFaults(const objc::Device& device);

  const objc::Buffer& buffer() const { return buffer_; }
  /// Of the slot of command buffer `ticket`, in bytes.
  static std::size_t offset_of(std::uint64_t ticket);
  /// The first fault of a completed command buffer in words, or "" if there was none; frees its slot.
  std::string take(std::uint64_t ticket);

 private:
  objc::Buffer buffer_;
};

}  // namespace candela::metal
