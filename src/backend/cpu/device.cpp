#include "backend/cpu/device.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <new>
#include <sys/mman.h>
#include <unistd.h>

#include <candela/core/parallel.h>
#include <candela/core/process.h>

#include "backend/cpu/instruction_limit.h"
#include "backend/cpu/table.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// From here on the allocator's size classes are whole pages: mapping wastes nothing.
constexpr std::size_t kMapThreshold = std::size_t{1} << 15U;
constexpr std::size_t kHugePage = std::size_t{1} << 21U;
/// Address space taken at once; only what is written becomes memory.
constexpr std::size_t kSpan = std::size_t{1} << 30U;

/// Small blocks given back to the heap before the heap is asked to give its free pages back: between tensors
/// that live on, they are holes that blocks of other sizes do not fit.
constexpr std::size_t kHeapSlack = std::size_t{1} << 20U;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

void* map(std::size_t bytes) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
#if defined(MAP_NORESERVE)
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags | MAP_NORESERVE, -1, 0);
#else
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
#endif
  if (data == MAP_FAILED) return nullptr;
#if defined(MADV_HUGEPAGE)
  ::madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

/// Small blocks from the heap. Large ones are mapped, so that giving them back really returns them, one
/// behind the other in a span of addresses: huge pages then cover the seams between them, where blocks mapped
/// one by one would be read through small pages, at half the speed. The allocator calls one at a time.
class CpuMemory final : public MemorySource {
 public:
  MemoryBlock acquire(std::size_t bytes) override {
    if (bytes < kMapThreshold) {
      return {::operator new (bytes, std::align_val_t{64}, std::nothrow), nullptr, bytes};
    }
    const std::size_t taken = rounded_up(bytes, page_size());
    if (taken > kSpan / 4) return {map(taken), nullptr, bytes};
    if (taken > left_) new_span();
    // Where addresses are limited there is no span.
    if (taken > left_) return {map(taken), nullptr, bytes};
    std::byte* data = next_;
    next_ += taken;
    left_ -= taken;
    return {data, nullptr, bytes};
  }

  void release(const MemoryBlock& block) override {
    if (block.bytes < kMapThreshold) {
      ::operator delete (block.data, std::align_val_t{64});
      give_back_pages(block.bytes);
    } else {
      ::munmap(block.data, rounded_up(block.bytes, page_size()));
    }
  }

  ~CpuMemory() override { drop_rest(); }

 private:
  void drop_rest() {
    if (left_ > 0) ::munmap(next_, left_);
    left_ = 0;
  }

  void new_span() {
    drop_rest();
    auto* span = static_cast<std::byte*>(map(kSpan + kHugePage));
    if (span == nullptr) return;
    const std::size_t skipped = rounded_up(reinterpret_cast<std::uintptr_t>(span), kHugePage) -
                                reinterpret_cast<std::uintptr_t>(span);
    if (skipped > 0) ::munmap(span, skipped);
    next_ = span + skipped;
    left_ = kSpan + kHugePage - skipped;
  }

  void give_back_pages(std::size_t freed) {
    freed_ += freed;
    if (freed_ < kHeapSlack) return;
    freed_ = 0;
#if defined(__GLIBC__)
    ::malloc_trim(0);
#endif
  }

  std::byte* next_ = nullptr;  // what remains of the span
  std::size_t left_ = 0;
  std::size_t freed_ = 0;  // small blocks since the last trim; the allocator's mutex guards all three
};

/// Nothing to wait for: what was enqueued has run.
class CpuEvent final : public Event {
 public:
  void wait() override {}
};

/// The CPU runs every op when it is called: there is nothing to wait for.
class CpuStream final : public Stream {
 public:
  void synchronize() override {}
};

std::size_t physical_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  return pages <= 0 ? 0 : static_cast<std::size_t>(pages) * page_size();
}

std::string read_cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "CPU";
}

const std::string& cpu_model() {
  static const std::string model = read_cpu_model();
  return model;
}

/// How `kernels` multiply bf16 matrices of a layer's size.
std::string bf16_path(const KernelTable& kernels) {
  constexpr std::int64_t kSize = 256;
  const Matrix matrix{nullptr, DType::BF16, kSize, 1};
  const GemmArgs args{.m = kSize, .n = kSize, .k = kSize, .a = matrix, .b = matrix, .c = matrix, .bias = {}};
  for (const Kernel<GemmArgs>& kernel : kernels.gemm.kernels) {
    if (!kernel.supports(args).empty()) continue;
    if (kernel.name == "amx") return "amx: native kernel on Intel's tiles";
    if (kernel.name == "onednn") return "onednn: bf16 operands as they lie";
    return fmt::format("{}: blocks converted to f32, products in f32", kernel.name);
  }
  return "none";
}

class CpuBackend final : public Backend {
 public:
  CpuBackend() : allocator_(Device::cpu(), std::make_unique<CpuMemory>()) { fill_cpu_table(kernels_); }

  Allocator& allocator() override { return allocator_; }
  Stream& stream() override { return stream_; }
  const KernelTable& kernels() const override { return kernels_; }
  bool host_accessible() const override { return true; }
  /// The team works for one host thread at a time.
  void dispatch(const OpCall& op) override {
    const TeamLock lock;
    op();
  }
  void copy_in(const Storage& to, std::size_t offset, std::span<const std::byte> from) override {
    if (!from.empty()) std::memcpy(static_cast<std::byte*>(to.data()) + offset, from.data(), from.size());
  }
  std::unique_ptr<Event> copy_out(const Storage& from, std::size_t offset, std::span<std::byte> to) override {
    if (!to.empty()) std::memcpy(to.data(), static_cast<const std::byte*>(from.data()) + offset, to.size());
    return std::make_unique<CpuEvent>();
  }
  DeviceMemory memory() const override { return {available_memory(), physical_memory()}; }
  std::string description() const override {
    return fmt::format("{}, {} threads, {}", cpu_model(), thread_count(), instruction_set());
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

std::vector<std::pair<std::string, std::string>> cpu_details(const KernelTable& kernels) {
  return {{"instruction set", instruction_set() + describe_instruction_limit()},
          {"product library", describe_vendor()},
          {"bf16 products", bf16_path(kernels)}};
}

std::unique_ptr<Backend> make_cpu_backend() {
#if defined(__SSE4_2__)
  require<DeviceError>(__builtin_cpu_supports("sse4.2") != 0,
                       "cpu: this build needs SSE4.2 (x86-64-v2), which the processor does not have");
#endif
  limit_kernels();
  return std::make_unique<CpuBackend>();
}

}  // namespace candela
