#pragma once

#include <functional>
#include <memory>
#include <span>

#include <candela/core/device.h>

#include "backend/cuda/stream.h"

namespace candela::cuda {

/// A point in the order of a stream's work.
class CudaEvent : public Event {
 public:
  explicit CudaEvent(CudaStream& stream);
  ~CudaEvent() override;
  void wait() override;

 protected:
  /// Waits in a destructor, where nothing can be told.
  void synchronize_quietly() noexcept;

  CudaStream& stream_;

 private:
  cudaEvent_t event_ = nullptr;
};

/// Copies bytes of the device to the host, in stream order: small ones through pinned memory, so that the
/// host goes on meanwhile; larger ones are there when it returns.
std::unique_ptr<Event> copy_out(CudaStream& stream, const void* from, std::span<std::byte> to);

/// Work captured as a CUDA graph.
class CudaRecording final : public Recording {
 public:
  /// Calls `work` once; nothing of it runs until replay(). `memory` is what the work's tensors lie in.
  CudaRecording(CudaStream& stream, const std::function<void()>& work,
                std::shared_ptr<CachingAllocator::Pool> memory);
  ~CudaRecording() override;
  void replay() override;
  const std::shared_ptr<CachingAllocator::Pool>& memory() const { return memory_; }

 private:
  CudaStream& stream_;
  CudaStream::Constants constants_;
  std::shared_ptr<CachingAllocator::Pool> memory_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace candela::cuda
