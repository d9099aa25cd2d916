#include "backend/metal/transfer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/metal/operand.h"

namespace candela::metal {
namespace {

/// `count` bytes of a storage, as the widest integers that fit them.
TensorArg bytes_of_storage(const Storage& storage, std::size_t offset, std::size_t count) {
  TensorArg arg;
  arg.dtype = (offset | count) % sizeof(std::int32_t) == 0 ? DType::I32 : DType::U8;
  const std::size_t width = size_of(arg.dtype);
  arg.data = static_cast<std::byte*>(storage.data()) + offset;
  arg.storage = &storage;
  arg.offset = static_cast<std::int64_t>(offset / width);
  arg.rank = 1;
  arg.shape[0] = static_cast<std::int64_t>(count / width);
  arg.strides[0] = 1;
  return arg;
}

/// A buffer that no queued work uses, unlike the allocator's; null where memory is short.
StoragePtr fresh_buffer(Engine& engine, std::size_t bytes) {
  const objc::AutoreleasePool pool;
  const objc::Device& device = engine.device();
  const std::size_t limit = device.recommended_working_set();
  if (bytes > device.max_buffer_length() || device.allocated() > limit || bytes > limit - device.allocated())
    return nullptr;
  objc::Buffer buffer = device.new_buffer(bytes);
  if (!buffer) return nullptr;
  void* contents = buffer.contents();
  return std::make_shared<Storage>(Device::metal(), MemoryBlock{contents, buffer.detach(), bytes},
                                   [](const MemoryBlock& block) {
                                     const objc::AutoreleasePool release_pool;
                                     const objc::Buffer gone = objc::Buffer::adopt(block.native);
                                   });
}

void enqueue_copy(Engine& engine, const Storage& from, std::size_t from_offset, const Storage& to,
                  std::size_t to_offset, std::size_t bytes) {
  constexpr std::size_t kLargest = std::size_t{1} << 30U;  // shaders count in 32 bits
  for (std::size_t at = 0; at < bytes; at += kLargest) {
    const std::size_t count = std::min(kLargest, bytes - at);
    TensorArg source = bytes_of_storage(from, from_offset + at, count);
    TensorArg target = bytes_of_storage(to, to_offset + at, count);
    if (source.dtype != target.dtype) {
      // One of the two offsets is odd: both byte by byte.
      for (TensorArg* arg : {&source, &target}) {
        if (arg->dtype != DType::I32) continue;
        arg->dtype = DType::U8;
        arg->offset *= static_cast<std::int64_t>(sizeof(std::int32_t));
        arg->shape[0] *= static_cast<std::int64_t>(sizeof(std::int32_t));
      }
    }
    encode_copy(engine, source, target);
  }
}

/// Done when the engine is; then the bytes go from the buffer to the host's memory.
class ReadEvent final : public candela::Event {
 public:
  ReadEvent(std::shared_ptr<Engine> engine, StoragePtr buffer, std::span<std::byte> to)
      : engine_(std::move(engine)), buffer_(std::move(buffer)), to_(to) {}

  void wait() override {
    engine_->synchronize();
    if (buffer_ == nullptr) return;
    std::memcpy(to_.data(), buffer_->data(), to_.size());
    buffer_.reset();
  }

 private:
  std::shared_ptr<Engine> engine_;
  StoragePtr buffer_;
  std::span<std::byte> to_;
};

}  // namespace

void copy_in(Engine& engine, const Storage& to, std::size_t offset, std::span<const std::byte> from) {
  if (from.empty()) return;
  StoragePtr buffer;
  if (!engine.idle()) {
    buffer = fresh_buffer(engine, from.size());
    if (buffer == nullptr) engine.wait_idle();
  }
  if (buffer == nullptr) {
    std::memcpy(static_cast<std::byte*>(to.data()) + offset, from.data(), from.size());
    return;
  }
  std::memcpy(buffer->data(), from.data(), from.size());
  enqueue_copy(engine, *buffer, 0, to, offset, from.size());
}

std::unique_ptr<candela::Event> copy_out(const std::shared_ptr<Engine>& engine, const Storage& from,
                                         std::size_t offset, std::span<std::byte> to) {
  StoragePtr buffer;
  if (!to.empty() && !engine->idle()) {
    buffer = fresh_buffer(*engine, to.size());
    if (buffer == nullptr) engine->wait_idle();
  }
  if (buffer != nullptr) {
    enqueue_copy(*engine, from, offset, *buffer, 0, to.size());
  } else if (!to.empty()) {
    std::memcpy(to.data(), static_cast<const std::byte*>(from.data()) + offset, to.size());
  }
  return std::make_unique<ReadEvent>(engine, std::move(buffer), to);
}

}  // namespace candela::metal
