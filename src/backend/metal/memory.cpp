#include "backend/metal/memory.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <unistd.h>

namespace candela::metal {
namespace {

constexpr std::size_t kSmall = 4096;
constexpr std::size_t kHeapBytes = std::size_t{4} << 20U;
/// Pages of Apple silicon; a system with smaller ones must meet it too.
constexpr std::size_t kPage = 16384;

/// Milliseconds that a shortage may last before it counts as one.
constexpr int kAttempts = 20;

std::size_t page_size() {
  return std::max(kPage, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

/// Whether so much more stays within what the device is recommended to hold.
bool fits(const objc::Device& device, std::size_t bytes) {
  const std::size_t limit = device.recommended_working_set();
  const std::size_t used = device.allocated();
  return bytes <= limit && used <= limit - bytes;
}

}  // namespace

MetalMemory::MetalMemory(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}

objc::Buffer MetalMemory::take(std::size_t bytes) {
  const objc::Device& device = engine_->device();
  if (bytes <= kSmall) {
    if (!heap_) heap_ = device.new_heap(kHeapBytes);
    if (heap_) {
      if (objc::Buffer buffer = heap_.new_buffer(bytes)) return buffer;
    }
  }
  if (bytes > device.max_buffer_length()) return {};
  if (!fits(device, bytes)) return {};
  return device.new_buffer(bytes);
}

MemoryBlock MetalMemory::acquire(std::size_t bytes) {
  const objc::AutoreleasePool pool;
  objc::Buffer buffer = take(bytes);
  if (!buffer) {
    // Command buffers keep what they use alive: buffers released earlier are really free once the GPU is
    // done, and a moment after it said so.
    engine_->wait_idle();
    buffer = take(bytes);
    for (int attempt = 0; !buffer && attempt < kAttempts; ++attempt) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      buffer = take(bytes);
    }
  }
  if (!buffer) return {nullptr, nullptr, bytes};
  void* contents = buffer.contents();
  return {contents, buffer.detach(), bytes};
}

void MetalMemory::release(const MemoryBlock& block) {
  const objc::AutoreleasePool pool;
  const objc::Buffer gone = objc::Buffer::adopt(block.native);
}

StoragePtr wrap_host_memory(const std::shared_ptr<Engine>& engine, Device device, void* data,
                            std::size_t bytes, std::shared_ptr<const void> owner) {
  const std::size_t page = page_size();
  if (bytes == 0 || reinterpret_cast<std::uintptr_t>(data) % page != 0) return nullptr;
  const objc::AutoreleasePool pool;
  // The last page of a mapping belongs to it as a whole; nothing beyond `bytes` is ever addressed.
  const std::size_t whole = (bytes + page - 1) / page * page;
  const objc::Device& gpu = engine->device();
  // Beyond the longest buffer Metal's answer is a failed assertion; beyond the working set the system swaps.
  if (whole > gpu.max_buffer_length() || !fits(gpu, whole)) return nullptr;
  objc::Buffer buffer =
      gpu.new_buffer_over(data, whole, [owner = std::move(owner)]() mutable { owner.reset(); });
  if (!buffer) return nullptr;
  engine->counters().wrapped_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return std::make_shared<Storage>(device, MemoryBlock{data, buffer.detach(), bytes},
                                   [](const MemoryBlock& block) {
                                     const objc::AutoreleasePool release_pool;
                                     const objc::Buffer gone = objc::Buffer::adopt(block.native);
                                   });
}

}  // namespace candela::metal
