#include "backend/cuda/transfer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace candela::cuda {
namespace {

/// A copy on its way through pinned memory.
class PinnedCopy final : public CudaEvent {
 public:
  PinnedCopy(CudaStream& stream, std::shared_ptr<void> pinned, std::span<std::byte> to)
      : CudaEvent(stream), pinned_(std::move(pinned)), to_(to) {}
  /// The slot may be handed out again only once the copy into it is done.
  ~PinnedCopy() override {
    if (!done_) synchronize_quietly();
  }
  void wait() override {
    CudaEvent::wait();
    done_ = true;
    std::memcpy(to_.data(), pinned_.get(), to_.size());
  }

 private:
  std::shared_ptr<void> pinned_;
  std::span<std::byte> to_;
  bool done_ = false;
};

}  // namespace

CudaEvent::CudaEvent(CudaStream& stream) : stream_(stream) {
  stream.use();
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "event");
  check(cudaEventRecord(event_, stream.handle()), "event");
}

CudaEvent::~CudaEvent() {
  cudaEventDestroy(event_);
}

void CudaEvent::synchronize_quietly() noexcept {
  cudaEventSynchronize(event_);
}

void CudaEvent::wait() {
  stream_.use();
  check(cudaEventSynchronize(event_), "work on the device");
  stream_.check_fault();
}

std::unique_ptr<Event> copy_out(CudaStream& stream, const void* from, std::span<std::byte> to) {
  stream.use();
  if (to.size() > PinnedSlots::kBytes) {
    check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream.handle()), "download");
    return std::make_unique<CudaEvent>(stream);
  }
  PinnedSlots& slots = stream.pinned();
  std::shared_ptr<void> pinned(slots.take(), [&slots](void* slot) { slots.give_back(slot); });
  check(cudaMemcpyAsync(pinned.get(), from, to.size(), cudaMemcpyDeviceToHost, stream.handle()), "download");
  return std::make_unique<PinnedCopy>(stream, std::move(pinned), to);
}

CudaRecording::CudaRecording(CudaStream& stream, const std::function<void()>& work,
                             std::shared_ptr<CachingAllocator::Pool> memory)
    : stream_(stream), memory_(std::move(memory)) {
  stream.use();
  // Relaxed: what the work allocates anew is asked of the driver meanwhile.
  check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeRelaxed), "record");
  cudaGraph_t graph = nullptr;
  stream.set_recording(&constants_);
  try {
    work();
  } catch (...) {
    stream.set_recording(nullptr);
    cudaStreamEndCapture(stream.handle(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // what the capture left behind is told by the exception
    throw;
  }
  stream.set_recording(nullptr);
  check(cudaStreamEndCapture(stream.handle(), &graph), "record");
  const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "record");
}

CudaRecording::~CudaRecording() {
  cudaGraphExecDestroy(graph_);
}

void CudaRecording::replay() {
  stream_.use();
  check(cudaGraphLaunch(graph_, stream_.handle()), "replay");
}

}  // namespace candela::cuda
