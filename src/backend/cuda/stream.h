#pragma once

#include <atomic>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <memory>
#include <string>
#include <string_view>

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

  /// Memory for what is enqueued next: it may be given back as soon as that is enqueued.
  StoragePtr scratch(std::size_t bytes);
  /// Throws InvalidArgument for an index that a kernel found out of range, in work that is done.
  void check_fault() {
    if (fault_->code != kNoFault) throw_fault();
  }
  void set_allocator(Allocator* allocator) { allocator_ = allocator; }

 private:
  void throw_fault();

  int device_;
  cudaStream_t stream_ = nullptr;
  Fault* fault_ = nullptr;
  DeviceLimits limits_;
  Allocator* allocator_ = nullptr;
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
