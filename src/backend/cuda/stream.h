#pragma once

#include <atomic>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/core/storage.h>

#include "backend/backend.h"
#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

class Blas;
class Cudnn;

/// Throws DeviceError unless `error` is cudaSuccess: "cuda: rms_norm: an illegal memory access ...".
void check(cudaError_t error, std::string_view what);

/// For tests: the n-th check from now on (1 is the next) fails as if its call had; 0 ends this.
void fail_nth_call(std::int64_t n);

/// Pinned memory in slots of one size, kept for reuse: to pin and to unpin memory holds up the device.
class PinnedSlots {
 public:
  static constexpr std::size_t kBytes = std::size_t{64} << 10U;

  PinnedSlots() = default;
  PinnedSlots(const PinnedSlots&) = delete;
  PinnedSlots& operator=(const PinnedSlots&) = delete;
  ~PinnedSlots();

  void* take();
  void give_back(void* slot) noexcept;

 private:
  std::mutex mutex_;
  std::vector<void*> free_;  // with room for every slot there is
  std::size_t made_ = 0;
};

/// The one stream of a device, on which everything is enqueued in the order of the calls.
class CudaStream final : public Stream {
 public:
  explicit CudaStream(int device);
  ~CudaStream() override;

  /// Waits for all work; throws DeviceError if any of it failed, InvalidArgument for an index that a kernel
  /// found out of range.
  void synchronize() override;

  /// Makes the device current in this thread. Every kernel's `run` comes through here.
  void use() const;
  cudaStream_t handle() const { return stream_; }
  int device() const { return device_; }
  const DeviceLimits& limits() const { return limits_; }
  /// Where kernels report what is wrong with their data.
  Fault* fault() const { return fault_; }
  /// cuBLASLt, or null where it is not installed (or not wanted).
  Blas* blas() const { return blas_.get(); }
  /// cuDNN's attention, or null.
  Cudnn* cudnn() const { return cudnn_.get(); }

  /// The device's description, under which measurements are kept.
  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }
  /// Memory for what is enqueued next: it may be given back as soon as that is enqueued.
  StoragePtr scratch(std::size_t bytes);
  /// Throws InvalidArgument for an index that a kernel found out of range, in work that is done.
  void check_fault() {
    if (fault_->code != kNoFault) throw_fault();
  }
  void set_allocator(Allocator* allocator) { allocator_ = allocator; }
  PinnedSlots& pinned() { return pinned_; }

  /// Pinned copies of the host's bytes that recorded uploads read at every replay.
  using Constants = std::vector<std::shared_ptr<void>>;
  /// While work is recorded: where its constants go; null: nothing is being recorded.
  void set_recording(Constants* constants) { recording_ = constants; }
  bool recording() const { return recording_ != nullptr; }
  /// A copy of `from` that lives as long as the recording.
  void* keep_constant(const void* from, std::size_t bytes);

 private:
  void throw_fault();

  int device_;
  std::string name_;
  cudaStream_t stream_ = nullptr;
  Fault* fault_ = nullptr;
  DeviceLimits limits_;
  Allocator* allocator_ = nullptr;
  Constants* recording_ = nullptr;
  PinnedSlots pinned_;
  std::unique_ptr<Blas> blas_;
  std::unique_ptr<Cudnn> cudnn_;
};

/// The stream that a kernel's `run` is given, its device made current.
inline CudaStream& stream_of(Stream& stream) {
  CudaStream& cuda = static_cast<CudaStream&>(stream);
  cuda.use();
  return cuda;
}

}  // namespace candela::cuda
