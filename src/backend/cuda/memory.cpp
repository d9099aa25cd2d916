#include "backend/cuda/memory.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace candela::cuda {
namespace {

constexpr std::size_t kSlots = 8;
constexpr std::size_t kSlotBytes = std::size_t{8} << 20U;

}  // namespace

MemoryBlock CudaMemory::acquire(std::size_t bytes) {
  if (!stream_->recording()) {
    for (const MemoryBlock& block : std::exchange(deferred_, {})) release(block);
  }
  if (limit_ > 0 && (bytes > limit_ || taken_ > limit_ - bytes)) return {nullptr, nullptr, bytes};
  stream_->use();
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not an error: the allocator gives cached blocks back and asks again
    return {nullptr, nullptr, bytes};
  }
  check(error, "cudaMalloc");
  taken_ += bytes;
  return {data, nullptr, bytes};
}

void CudaMemory::release(const MemoryBlock& block) {
  if (stream_->recording()) {
    deferred_.push_back(block);
    return;
  }
  // Waits for the work that still reads the block. Must not throw: the device may be lost already.
  cudaSetDevice(stream_->device());
  cudaFree(block.data);
  taken_ -= block.bytes;
}

PinnedRing::~PinnedRing() {
  for (const Slot& slot : slots_) {
    cudaEventDestroy(slot.copied);
    cudaFreeHost(slot.data);
  }
}

PinnedRing::Slot& PinnedRing::next_slot() {
  if (slots_.size() < kSlots && next_ == slots_.size()) {
    Slot slot;
    check(cudaHostAlloc(&slot.data, kSlotBytes, cudaHostAllocDefault), "pinned memory");
    check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "event");
    slots_.push_back(slot);
  }
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % kSlots;
  check(cudaEventSynchronize(slot.copied), "event");
  return slot;
}

void PinnedRing::upload(void* to, const void* from, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  stream_.use();
  if (stream_.recording()) {
    check(cudaMemcpyAsync(to, stream_.keep_constant(from, bytes), bytes, cudaMemcpyHostToDevice,
                          stream_.handle()),
          "upload");
    return;
  }
  for (std::size_t done = 0; done < bytes; done += kSlotBytes) {
    const std::size_t part = std::min(kSlotBytes, bytes - done);
    Slot& slot = next_slot();
    std::memcpy(slot.data, static_cast<const std::byte*>(from) + done, part);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + done, slot.data, part, cudaMemcpyHostToDevice,
                          stream_.handle()),
          "upload");
    check(cudaEventRecord(slot.copied, stream_.handle()), "event");
  }
}

}  // namespace candela::cuda
