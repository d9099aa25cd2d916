#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include <candela/core/storage.h>

#include "backend/cuda/stream.h"

namespace candela::cuda {

/// Blocks of device memory for the caching allocator. All work is on one stream, so a block that was given
/// back may be handed out again at once: what was enqueued earlier runs before what comes.
class CudaMemory final : public MemorySource {
 public:
  /// At most `limit` bytes; 0: what the device has.
  CudaMemory(std::shared_ptr<CudaStream> stream, std::size_t limit)
      : stream_(std::move(stream)), limit_(limit) {}
  MemoryBlock acquire(std::size_t bytes) override;
  void release(const MemoryBlock& block) override;

 private:
  std::shared_ptr<CudaStream> stream_;
  std::size_t limit_;
  std::size_t taken_ = 0;  // the allocator calls one at a time
  /// given back while work was recorded, when nothing can be freed
  std::vector<MemoryBlock> deferred_;
};

/// Pinned memory through which the host's bytes go to the device without a wait, in slots that are used in
/// turn.
class PinnedRing {
 public:
  explicit PinnedRing(CudaStream& stream) : stream_(stream) {}
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;
  ~PinnedRing();

  /// Enqueues a copy of host bytes to device memory; `from` may change as soon as it returns.
  void upload(void* to, const void* from, std::size_t bytes);

 private:
  struct Slot {
    void* data = nullptr;
    cudaEvent_t copied = nullptr;
  };
  Slot& next_slot();

  CudaStream& stream_;
  std::mutex mutex_;
  std::vector<Slot> slots_;
  std::size_t next_ = 0;
};

}  // namespace candela::cuda
