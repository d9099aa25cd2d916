#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

/// Memory: storages (what tensors share) and the caching allocator behind every device.
namespace candela {

/// Plan is a device without memory or arithmetic: running a computation on it tells what the computation
/// would allocate on the device that it plans for. Custom devices are registered by a program: tests do.
enum class DeviceType : std::uint8_t { Cpu, Metal, Cuda, Plan, Custom };

struct Device {
  DeviceType type = DeviceType::Cpu;
  int index = 0;
  /// Type of the device that a plan device plans for, whose index it has; Cpu on other devices.
  DeviceType planned = DeviceType::Cpu;

  static constexpr Device cpu() { return {}; }
  static constexpr Device metal(int index = 0) { return {DeviceType::Metal, index, DeviceType::Cpu}; }
  static constexpr Device cuda(int index = 0) { return {DeviceType::Cuda, index, DeviceType::Cpu}; }
  static constexpr Device custom(int index = 0) { return {DeviceType::Custom, index, DeviceType::Cpu}; }
  /// The plan device of `of`.
  static constexpr Device plan(Device of = cpu()) { return {DeviceType::Plan, of.index, of.type}; }
  bool operator==(const Device&) const = default;
};

/// "cpu", "metal:0", "cuda:1", "custom:0"; "plan of metal:0", and "plan" for that of the CPU.
std::string to_string(Device device);
/// Inverse of to_string for the CPU, Metal and CUDA; an index may be left out. "auto": default_device().
/// Throws InvalidArgument.
Device parse_device(std::string_view name);

/// A range of device memory. `data` is its address on the device, which the host may dereference where
/// DeviceInterface::host_accessible(). `native` is the backend's handle (an MTLBuffer, say), null where
/// `data` says it all.
struct MemoryBlock {
  void* data = nullptr;
  void* native = nullptr;
  std::size_t bytes = 0;
};

/// Memory that tensors share, given back when the last of them goes.
class Storage {
 public:
  using Release = std::function<void(const MemoryBlock&)>;

  Storage(Device device, MemoryBlock block, Release release)
      : device_(device), block_(block), release_(std::move(release)) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  Device device() const { return device_; }
  void* data() const { return block_.data; }
  void* native() const { return block_.native; }
  std::size_t bytes() const { return block_.bytes; }

  /// Counts the ops that wrote into this memory in place: what a gradient kept is checked against it. Writes
  /// through Tensor::data() are not seen.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  Device device_;
  MemoryBlock block_;
  Release release_;
  std::atomic<std::uint64_t> version_{0};
};

using StoragePtr = std::shared_ptr<Storage>;

/// All in bytes, but for the counts. Peaks are since the last reset_peaks().
struct MemoryStats {
  /// in live storages, as rounded by the allocator
  std::size_t allocated = 0;
  std::size_t peak_allocated = 0;
  /// taken from the device: live storages and cached blocks
  std::size_t reserved = 0;
  std::size_t peak_reserved = 0;
  /// storages handed out
  std::uint64_t allocations = 0;
  /// of those, served without asking the device
  std::uint64_t cache_hits = 0;
};

class Allocator {
 public:
  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  virtual ~Allocator() = default;

  /// Uninitialised memory of at least `bytes`, aligned to 64 bytes. Throws DeviceError when there is none
  /// left.
  virtual StoragePtr allocate(std::size_t bytes) = 0;
  virtual MemoryStats stats() const = 0;
  virtual void reset_peaks() = 0;
  /// Gives cached blocks back to the device.
  virtual void trim() = 0;
};

/// Where a caching allocator gets its blocks.
class MemorySource {
 public:
  MemorySource() = default;
  MemorySource(const MemorySource&) = delete;
  MemorySource& operator=(const MemorySource&) = delete;
  virtual ~MemorySource() = default;

  /// A block of exactly `bytes`, or one with null `data` and null `native` when memory is short.
  virtual MemoryBlock acquire(std::size_t bytes) = 0;
  virtual void release(const MemoryBlock& block) = 0;
};

/// Keeps freed blocks by size class and hands them out again, a large block also for a request of down to two
/// thirds of its size. Sizes are rounded up by at most an eighth. Thread-safe. Before the reserve grows
/// beyond what it ever was, or 3 % above the most that was in use, cached blocks are given back, large ones
/// only for large ones: shapes that change from step to step do not pile up.
class CachingAllocator final : public Allocator {
 public:
  CachingAllocator(Device device, std::unique_ptr<MemorySource> source);
  ~CachingAllocator() override;

  StoragePtr allocate(std::size_t bytes) override;
  MemoryStats stats() const override;
  void reset_peaks() override;
  void trim() override;

  /// The size class of a request: what `allocate(bytes)` will really take.
  static std::size_t round_up(std::size_t bytes);

  struct Pool;
  /// Blocks that are handed out to its users alone, for work that is recorded and runs again in the same
  /// memory. They go back to the device once neither the pool nor a storage from it is left.
  std::shared_ptr<Pool> make_pool();
  /// While it lives, what the calling thread allocates comes from `pool`.
  class PoolScope {
   public:
    PoolScope(CachingAllocator& allocator, std::shared_ptr<Pool> pool);
    ~PoolScope();
    PoolScope(const PoolScope&) = delete;
    PoolScope& operator=(const PoolScope&) = delete;

   private:
    CachingAllocator& allocator_;
    std::shared_ptr<Pool> pool_;
  };

 private:
  struct State;  // shared with the storages: they may outlive the allocator
  std::shared_ptr<State> state_;
};

}  // namespace candela

template <>
struct fmt::formatter<candela::Device> : fmt::formatter<std::string> {
  auto format(candela::Device device, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(candela::to_string(device), context);
  }
};
