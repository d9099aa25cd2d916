#include "backend/plan/device.h"

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
  Allocator& allocator() override { return allocator_; }
  Stream& stream() override { return stream_; }
  const KernelTable& kernels() const override { return kernels_; }
  bool host_accessible() const override { return false; }
  std::string description() const override { return "counts memory, computes nothing"; }
  StoragePtr wrap_host(void*, std::size_t bytes, std::shared_ptr<const void>) override {
    return std::make_shared<Storage>(Device::plan(), MemoryBlock{nullptr, nullptr, bytes}, nullptr);
  }

 private:
  CachingAllocator allocator_{Device::plan(), std::make_unique<PlanMemory>()};
  PlanStream stream_;
  KernelTable kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_plan_backend() {
  return std::make_unique<PlanBackend>();
}

}  // namespace candela
