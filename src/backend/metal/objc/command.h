#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "backend/metal/objc/device.h"
#include "backend/metal/objc/library.h"

namespace candela::metal::objc {

struct Size {
  std::size_t x = 1, y = 1, z = 1;
};

/// MTLComputeCommandEncoder. Ends its encoding when it goes.
class ComputeEncoder : public Object {
 public:
  ComputeEncoder() = default;
  static ComputeEncoder share(void* borrowed) { return ComputeEncoder(borrowed); }
  ComputeEncoder(const ComputeEncoder&) = delete;
  ComputeEncoder(ComputeEncoder&&) noexcept = default;
  ComputeEncoder& operator=(const ComputeEncoder&) = delete;
  ComputeEncoder& operator=(ComputeEncoder&& other) noexcept;
  ~ComputeEncoder() { end(); }

  void set_pipeline(const Pipeline& pipeline);
  /// `buffer` is a MemoryBlock::native; `offset` in bytes.
  void set_buffer(void* buffer, std::size_t offset, std::size_t index);
  /// At most 4 KiB.
  void set_bytes(const void* bytes, std::size_t length, std::size_t index);
  void dispatch_groups(Size groups, Size threads_per_group);
  void dispatch_threads(Size threads, Size threads_per_group);
  /// Nothing can be encoded afterwards.
  void end();

 private:
  explicit ComputeEncoder(void* borrowed) : Object(borrowed, Ownership::Share) {}
};

/// How a command buffer ended.
struct Outcome {
  bool failed = false;
  /// MTLCommandBufferError
  long code = 0;
  /// the system's words, empty if it succeeded
  std::string text;
};

/// MTLCommandBufferError codes that Candela treats in their own way.
inline constexpr long kOutOfMemoryCode = 8;
inline constexpr long kTimeoutCode = 2;

/// MTLCommandBuffer.
class CommandBuffer : public Object {
 public:
  CommandBuffer() = default;
  static CommandBuffer share(void* borrowed) { return CommandBuffer(borrowed); }

  ComputeEncoder compute_encoder();
  void set_label(std::string_view label);
  /// Called on a thread of the system's once the GPU is done.
  void on_completed(std::function<void(const Outcome&)> handler);
  void signal(const Event& event, std::uint64_t value);
  void wait_for(const Event& event, std::uint64_t value);
  void commit();
  /// Blocks until the GPU is done and the handlers have run. Only after commit.
  void wait();
  Outcome outcome() const;

 private:
  explicit CommandBuffer(void* borrowed) : Object(borrowed, Ownership::Share) {}
};

/// MTLCommandQueue.
class CommandQueue : public Object {
 public:
  CommandQueue() = default;
  static CommandQueue adopt(void* owned) { return CommandQueue(owned); }
  /// Blocks while the queue's limit of uncompleted command buffers is reached. Throws DeviceError if the
  /// device is lost.
  CommandBuffer new_command_buffer();

 private:
  explicit CommandQueue(void* owned) : Object(owned, Ownership::Adopt) {}
};

}  // namespace candela::metal::objc
