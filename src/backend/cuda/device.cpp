#include "backend/cuda/device.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include <candela/core/error.h>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/table.h"
#include "backend/cuda/transfer.h"
#include "backend/kernels.h"

namespace candela {
namespace cuda {
namespace {

/// $CANDELA_CUDA_LIMIT_MIB: the most memory that is taken from a device; 0 or unset: all it has.
std::size_t memory_limit() {
  const char* text = std::getenv("CANDELA_CUDA_LIMIT_MIB");
  if (text == nullptr) return 0;
  std::size_t mib = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, code] = std::from_chars(text, end, mib);
  require(code == std::errc() && rest == end && mib < (std::size_t{1} << 40U),
          "CANDELA_CUDA_LIMIT_MIB: must be a whole number of MiB; got \"{}\"", text);
  return mib << 20U;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(int index, const cudaDeviceProp& properties)
      : properties_(properties),
        stream_(std::make_shared<CudaStream>(index)),
        limit_(memory_limit()),
        allocator_(Device::cuda(index), std::make_unique<CudaMemory>(stream_, limit_)),
        ring_(*stream_) {
    stream_->set_allocator(&allocator_);
    stream_->set_name(description());
    fill_table(kernels_, Offer{stream_->blas() != nullptr, stream_->cudnn() != nullptr});
  }

  Allocator& allocator() override { return allocator_; }
  Stream& stream() override { return *stream_; }
  const KernelTable& kernels() const override { return kernels_; }
  bool host_accessible() const override { return false; }
  std::string description() const override {
    return fmt::format("{}, compute {}.{}, {} MiB, {}", properties_.name, properties_.major,
                       properties_.minor, properties_.totalGlobalMem >> 20U,
                       stream_->blas() == nullptr
                           ? "native kernels only"
                           : (stream_->cudnn() == nullptr ? "cuBLASLt" : "cuBLASLt, cuDNN"));
  }
  StoragePtr wrap_host(void*, std::size_t, std::shared_ptr<const void>) override { return nullptr; }
  void copy_in(const Storage& to, std::size_t offset, std::span<const std::byte> from) override {
    ring_.upload(static_cast<std::byte*>(to.data()) + offset, from.data(), from.size());
  }
  std::unique_ptr<Event> copy_out(const Storage& from, std::size_t offset, std::span<std::byte> to) override {
    return cuda::copy_out(*stream_, static_cast<const std::byte*>(from.data()) + offset, to);
  }
  std::unique_ptr<Event> record_event() override { return std::make_unique<CudaEvent>(*stream_); }
  DeviceMemory memory() const override {
    stream_->use();
    DeviceMemory memory;
    check(cudaMemGetInfo(&memory.free, &memory.total), "memory");
    if (limit_ > 0) memory = {std::min(memory.free, limit_), std::min(memory.total, limit_)};
    return memory;
  }
  bool records() const override { return true; }
  bool recording() const override { return stream_->recording(); }
  std::unique_ptr<Recording> record(std::function<void()> work, const Recording* beside) override {
    std::shared_ptr<CachingAllocator::Pool> pool =
        beside != nullptr ? static_cast<const CudaRecording*>(beside)->memory() : allocator_.make_pool();
    const CachingAllocator::PoolScope scope(allocator_, pool);
    return std::make_unique<CudaRecording>(*stream_, work, pool);
  }

 private:
  cudaDeviceProp properties_;
  std::shared_ptr<CudaStream> stream_;
  std::size_t limit_;
  CachingAllocator allocator_;
  PinnedRing ring_;
  KernelTable kernels_;
};

}  // namespace
}  // namespace cuda

std::vector<std::unique_ptr<Backend>> make_cuda_backends() {
  std::vector<std::unique_ptr<Backend>> backends;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // no driver, or no GPU
    return backends;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) continue;
    // Kernels use bf16 arithmetic and asynchronous copies of sm_80.
    if (properties.major < 8) continue;
    backends.push_back(std::make_unique<cuda::CudaBackend>(index, properties));
  }
  return backends;
}

}  // namespace candela
