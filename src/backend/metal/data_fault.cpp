#include "backend/metal/data_fault.h"

#include <algorithm>
#include <cstring>

#include <candela/core/error.h>

#include "backend/metal/shaders/params.h"

namespace candela::metal {
namespace {

/// Command buffers that a queue may hold, and more.
constexpr std::size_t kSlots = 128;

std::string in_words(const shader::FaultSlot& slot) {
  const auto range = [&](std::string_view what) {
    return fmt::format("{} must be in [0, {}); got {}", what, slot.bound, slot.value);
  };
  switch (slot.code) {
    case shader::kEmbeddingId:
      return range("embedding: ids");
    case shader::kGatherIndex:
      return range("gather: indices");
    case shader::kTarget:
      return range("cross_entropy: targets");
    case shader::kFirstBound:
      return fmt::format("attention: cu_seqlens must start at 0; got {}", slot.value);
    case shader::kBoundOrder:
      return fmt::format("attention: cu_seqlens must not decrease; got {} after {}", slot.value, slot.bound);
    case shader::kLastBound:
      return fmt::format("attention: cu_seqlens must end at T = {}; got {}", slot.bound, slot.value);
    default:
      return range("rope: positions");
  }
}

}  // namespace

DataFaults::DataFaults(const objc::Device& device)
    : buffer_(device.new_buffer(kSlots * sizeof(shader::FaultSlot))) {
  require<DeviceError>(static_cast<bool>(buffer_), "metal: the device has no memory for its first buffer");
  std::memset(buffer_.contents(), 0, kSlots * sizeof(shader::FaultSlot));
}

std::size_t DataFaults::offset_of(std::uint64_t ticket) {
  return static_cast<std::size_t>(ticket % kSlots) * sizeof(shader::FaultSlot);
}

std::string DataFaults::take(std::uint64_t ticket) {
  std::byte* const place = static_cast<std::byte*>(buffer_.contents()) + offset_of(ticket);
  shader::FaultSlot slot;
  std::memcpy(&slot, place, sizeof(slot));
  if (slot.reported == 0) return {};
  std::memset(place, 0, sizeof(slot));
  return in_words(slot);
}

}  // namespace candela::metal
