#include "backend/cuda/transfer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace candela::cuda {
namespace {

/// Beyond it a copy through pinned memory costs more than the wait that it spares.
constexpr std::size_t kMaxPinned = std::size_t{64} << 10U;

/// A copy on its way through pinned memory.
class PinnedCopy final : public CudaEvent {
 public:
  PinnedCopy(CudaStream& stream, void* pinned, std::span<std::byte> to)
      : CudaEvent(stream), pinned_(pinned), to_(to) {}
  ~PinnedCopy() override { cudaFreeHost(pinned_); }
  void wait() override {
    CudaEvent::wait();
    std::memcpy(to_.data(), pinned_, to_.size());
  }

 private:
  void* pinned_;
  std::span<std::byte> to_;
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

void CudaEvent::wait() {
  stream_.use();
  check(cudaEventSynchronize(event_), "work on the device");
  stream_.check_fault();
}

std::unique_ptr<Event> copy_out(CudaStream& stream, const void* from, std::span<std::byte> to) {
  stream.use();
  if (to.size() > kMaxPinned) {
    check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream.handle()), "download");
    return std::make_unique<CudaEvent>(stream);
  }
  void* pinned = nullptr;
  check(cudaHostAlloc(&pinned, std::max<std::size_t>(to.size(), 1), cudaHostAllocDefault), "pinned memory");
  check(cudaMemcpyAsync(pinned, from, to.size(), cudaMemcpyDeviceToHost, stream.handle()), "download");
  return std::make_unique<PinnedCopy>(stream, pinned, to);
}

CudaRecording::CudaRecording(CudaStream& stream, const std::function<void()>& work,
                             std::shared_ptr<const void> memory)
    : stream_(stream), memory_(std::move(memory)) {
  stream.use();
  // Relaxed: what the work allocates anew is asked of the driver meanwhile.
  check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeRelaxed), "record");
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream.handle(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
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
