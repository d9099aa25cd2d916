#include "backend/cpu/device.h"

#include <fstream>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <new>
#include <sys/mman.h>

#include <candela/core/parallel.h>

#include "backend/cpu/table.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// From here on the allocator's size classes are whole pages: mapping wastes nothing.
constexpr std::size_t kMapThreshold = std::size_t{1} << 15U;

/// Small blocks given back to the heap before the heap is asked to give its free pages back: between tensors
/// that live on, they are holes that blocks of other sizes do not fit.
constexpr std::size_t kHeapSlack = std::size_t{1} << 20U;

/// Small blocks from the heap; large ones mapped, so that giving them back really returns them, and in huge
/// pages where the system has them.
class CpuMemory final : public MemorySource {
 public:
  MemoryBlock acquire(std::size_t bytes) override {
    if (bytes < kMapThreshold) {
      return {::operator new (bytes, std::align_val_t{64}, std::nothrow), nullptr, bytes};
    }
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return {nullptr, nullptr, bytes};
#if defined(MADV_HUGEPAGE)
    ::madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return {data, nullptr, bytes};
  }

  void release(const MemoryBlock& block) override {
    if (block.bytes < kMapThreshold) {
      ::operator delete (block.data, std::align_val_t{64});
      give_back_pages(block.bytes);
    } else {
      ::munmap(block.data, block.bytes);
    }
  }

 private:
  void give_back_pages(std::size_t freed) {
#if defined(__GLIBC__)
    freed_ += freed;
    if (freed_ < kHeapSlack) return;
    freed_ = 0;
    ::malloc_trim(0);
#else
    static_cast<void>(freed);
#endif
  }

  std::size_t freed_ = 0;  // small blocks since the last trim; the allocator's mutex guards it
};

/// The CPU runs every op when it is called: there is nothing to wait for.
class CpuStream final : public Stream {
 public:
  void synchronize() override {}
};

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "CPU";
}

class CpuBackend final : public Backend {
 public:
  CpuBackend() : allocator_(Device::cpu(), std::make_unique<CpuMemory>()) { fill_cpu_table(kernels_); }

  Allocator& allocator() override { return allocator_; }
  Stream& stream() override { return stream_; }
  const KernelTable& kernels() const override { return kernels_; }
  bool host_accessible() const override { return true; }
  std::string description() const override {
    return fmt::format("{}, {} threads", cpu_model(), thread_count());
  }
  StoragePtr wrap_host(void* data, std::size_t bytes, std::shared_ptr<const void> owner) override {
    return std::make_shared<Storage>(Device::cpu(), MemoryBlock{data, nullptr, bytes},
                                     [owner = std::move(owner)](const MemoryBlock&) {});
  }

 private:
  CachingAllocator allocator_;
  CpuStream stream_;
  KernelTable kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend() {
  return std::make_unique<CpuBackend>();
}

}  // namespace candela
