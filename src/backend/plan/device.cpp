#include "backend/plan/device.h"

#include <candela/core/error.h>

#include "backend/kernels.h"

namespace candela {
namespace {

/// Hands out addresses that must never be dereferenced, one past another, so that blocks stay distinct.
class PlanMemory final : public MemorySource {
 public:
  MemoryBlock acquire(std::size_t bytes) override {
    next_ += bytes;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an identity, not a pointer
    return {nullptr, reinterpret_cast<void*>(next_), bytes};
  }
  void release(const MemoryBlock&) override {}

 private:
  std::uintptr_t next_ = 4096;
};

class PlanStream final : public Stream {
 public:
  void synchronize() override {}
};

class PlanBackend final : public Backend {
 public:
  PlanBackend(Device of, const KernelTable& kernels)
      : device_(Device::plan(of)), planned_(kernels), allocator_(device_, std::make_unique<PlanMemory>()) {}

  Allocator& allocator() override { return allocator_; }
  Stream& stream() override { return stream_; }
  const KernelTable& kernels() const override { return kernels_; }
  const KernelTable* planned() const override { return &planned_; }
  bool computes() const override { return false; }
  bool host_accessible() const override { return false; }
  std::string description() const override { return "counts memory, computes nothing"; }
  StoragePtr wrap_host(void*, std::size_t bytes, std::shared_ptr<const void>) override {
    return std::make_shared<Storage>(device_, MemoryBlock{nullptr, nullptr, bytes}, nullptr);
  }
  void copy_in(const Storage&, std::size_t, std::span<const std::byte>) override {}
  std::unique_ptr<Event> copy_out(const Storage&, std::size_t, std::span<std::byte>) override {
    throw InvalidArgument(fmt::format("read: tensors on {} have no values", device_));
  }
  DeviceMemory memory() const override { return {}; }

 private:
  Device device_;
  const KernelTable& planned_;
  CachingAllocator allocator_;
  PlanStream stream_;
  KernelTable kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_plan_backend(Device of, const KernelTable& kernels) {
  return std::make_unique<PlanBackend>(of, kernels);
}

}  // namespace candela
