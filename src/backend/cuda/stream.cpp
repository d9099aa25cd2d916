#include "backend/cuda/stream.h"

#include <algorithm>
#include <cstring>

#include <candela/core/error.h>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cudnn.h"

namespace candela::cuda {
namespace {

std::atomic<std::int64_t>& countdown() {
  static std::atomic<std::int64_t> calls{0};
  return calls;
}

}  // namespace

void fail_nth_call(std::int64_t n) {
  countdown().store(n);
}

void check(cudaError_t error, std::string_view what) {
  if (countdown().load(std::memory_order_relaxed) > 0 && countdown().fetch_sub(1) == 1 &&
      error == cudaSuccess)
    error = cudaErrorUnknown;
  if (error == cudaSuccess) return;
  // Clears what is not sticky, so that the next call does not report it again.
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) {
    throw DeviceError(fmt::format(
        "cuda: {}: the GPU has no memory left; use a smaller --batch-size or a shorter --max-length", what));
  }
  throw DeviceError(
      fmt::format("cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)));
}

PinnedSlots::~PinnedSlots() {
  for (void* slot : free_) cudaFreeHost(slot);
}

void* PinnedSlots::take() {
  const std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    void* slot = free_.back();
    free_.pop_back();
    return slot;
  }
  free_.reserve(made_ + 1);  // give_back() must not allocate
  void* slot = nullptr;
  check(cudaHostAlloc(&slot, kBytes, cudaHostAllocDefault), "pinned memory");
  ++made_;
  return slot;
}

void PinnedSlots::give_back(void* slot) noexcept {
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

CudaStream::CudaStream(int device) : device_(device) {
  use();
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "device properties");
  limits_ = {properties.multiProcessorCount, properties.major, properties.minor,
             static_cast<int>(properties.sharedMemPerBlockOptin)};
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  void* fault = nullptr;
  check(cudaHostAlloc(&fault, sizeof(Fault), cudaHostAllocMapped), "pinned memory");
  fault_ = new (fault) Fault;
  blas_ = Blas::open(*this);
  cudnn_ = Cudnn::open(*this);
}

CudaStream::~CudaStream() {
  cudaSetDevice(device_);
  cudaStreamSynchronize(stream_);
  cudnn_.reset();
  blas_.reset();
  cudaFreeHost(fault_);
  cudaStreamDestroy(stream_);
}

void CudaStream::use() const {
  // cudaSetDevice costs a microsecond, a comparison nothing.
  thread_local int current = -1;
  if (current == device_) return;
  check(cudaSetDevice(device_), "device");
  current = device_;
}

void CudaStream::synchronize() {
  use();
  check(cudaStreamSynchronize(stream_), "work on the device");
  check_fault();
}

void CudaStream::throw_fault() {
  const Fault fault = *fault_;
  *fault_ = Fault{};
  const auto range = [&](std::string_view what) {
    return fmt::format("{} must be in [0, {}); got {}", what, fault.bound, fault.value);
  };
  switch (fault.code) {
    case kEmbeddingId:
      throw InvalidArgument(range("embedding: ids"));
    case kGatherIndex:
      throw InvalidArgument(range("gather: indices"));
    case kTarget:
      throw InvalidArgument(range("cross_entropy: targets"));
    default:
      throw InvalidArgument(range("rope: positions"));
  }
}

void* CudaStream::keep_constant(const void* from, std::size_t bytes) {
  void* kept = nullptr;
  check(cudaHostAlloc(&kept, std::max<std::size_t>(bytes, 1), cudaHostAllocDefault), "pinned memory");
  recording_->emplace_back(kept, [](void* memory) { cudaFreeHost(memory); });
  std::memcpy(kept, from, bytes);
  return kept;
}

StoragePtr CudaStream::scratch(std::size_t bytes) {
  return allocator_->allocate(bytes);
}

}  // namespace candela::cuda
