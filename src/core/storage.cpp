#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include <candela/core/device.h>
#include <candela/core/error.h>
#include <candela/core/storage.h>

namespace candela {

std::string to_string(Device device) {
  switch (device.type) {
    case DeviceType::Cpu:
      return "cpu";
    case DeviceType::Metal:
      return fmt::format("metal:{}", device.index);
    case DeviceType::Cuda:
      return fmt::format("cuda:{}", device.index);
    case DeviceType::Custom:
      return fmt::format("custom:{}", device.index);
    case DeviceType::Plan:
      if (device.planned == DeviceType::Cpu) return "plan";
      return fmt::format("plan of {}", Device{device.planned, device.index, DeviceType::Cpu});
  }
  throw InvalidArgument("device: unknown type");
}

Device parse_device(std::string_view name) {
  const auto colon = name.find(':');
  const std::string_view type = name.substr(0, colon);
  int index = 0;
  bool index_ok = true;
  if (colon != std::string_view::npos) {
    const std::string_view digits = name.substr(colon + 1);
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    index_ok = code == std::errc() && end == digits.data() + digits.size() && index >= 0;
  }
  if (name == "auto") return default_device();
  if (index_ok && type == "cpu" && index == 0) return Device::cpu();
  if (index_ok && type == "metal") return Device::metal(index);
  if (index_ok && type == "cuda") return Device::cuda(index);
  throw InvalidArgument(fmt::format("device: expected auto, cpu, metal[:N] or cuda[:N]; got \"{}\"", name));
}

Storage::~Storage() {
  if (release_) release_(block_);
}

/// By size.
using FreeBlocks = std::map<std::size_t, std::vector<MemoryBlock>>;

/// The free blocks of a pool; the mutex of the allocator's state guards them.
struct CachingAllocator::Pool {
  explicit Pool(std::shared_ptr<State> of) : state(std::move(of)) {}
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::shared_ptr<State> state;
  FreeBlocks free_blocks;
};

/// Free blocks by size, and the figures. Outlives the allocator while storages are alive.
struct CachingAllocator::State {
  Device device;
  std::unique_ptr<MemorySource> source;
  mutable std::mutex mutex;
  FreeBlocks free_blocks;
  std::size_t cached = 0;
  std::size_t most_reserved = 0, most_allocated = 0;                      // since the last trim
  std::vector<std::pair<std::thread::id, std::shared_ptr<Pool>>> scopes;  // the innermost last
  MemoryStats stats;
  bool closed = false;

  ~State() { release_cached(cached); }

  static constexpr std::size_t kLarge = std::size_t{1} << 15U;

  /// Gives back cached blocks of `from` to `largest` bytes, the smallest first (a larger one can stand in for
  /// it), until `bytes` are returned or none is left.
  void release_cached(std::size_t bytes, std::size_t from = 0,
                      std::size_t largest = std::numeric_limits<std::size_t>::max()) {
    std::size_t released = 0;
    auto next = free_blocks.lower_bound(from);
    while (released < bytes && next != free_blocks.end() && next->first <= largest) {
      const MemoryBlock block = next->second.back();
      next->second.pop_back();
      if (next->second.empty()) next = free_blocks.erase(next);
      source->release(block);
      released += block.bytes;
      cached -= block.bytes;
      stats.reserved -= block.bytes;
    }
  }

  /// Makes room for a new block within the reserve that was needed before, or 3 % above the most that was in
  /// use, so that the reserve grows only when the need does. Blocks of different sizes that do not fit
  /// together would take turns in pushing each other out, and all their pages be faulted in again each time:
  /// without the 3 %, the scratch of two ops would; and for a small block, no large one is given back.
  void release_beyond_peak(std::size_t bytes) {
    const std::size_t bound = std::max(most_reserved, most_allocated + most_allocated / 32);
    const auto beyond = [&] {
      const std::size_t after = stats.reserved + bytes;
      return after > bound ? after - bound : 0;
    };
    if (bytes >= kLarge) release_cached(beyond(), kLarge);
    release_cached(beyond(), 0, kLarge - 1);
  }

  /// A cached block of the wanted size class, or for a large request the smallest one that is at most half as
  /// large again: when lengths differ from batch to batch, the blocks of the longest serve all others, and no
  /// page is given back and faulted in again.
  static bool take_free(FreeBlocks& blocks, std::size_t bytes, MemoryBlock& block) {
    const auto found = blocks.lower_bound(bytes);
    if (found == blocks.end()) return false;
    if (found->first != bytes && (bytes < kLarge || found->first > bytes + bytes / 2)) return false;
    block = found->second.back();
    found->second.pop_back();
    if (found->second.empty()) blocks.erase(found);
    return true;
  }

  /// The pool that this thread allocates from; null: none.
  std::shared_ptr<Pool> pool_in_use() const {
    for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
      if (scope->first == std::this_thread::get_id()) return scope->second;
    }
    return nullptr;
  }

  /// Sets `pool` to the pool that the block goes back to.
  MemoryBlock take(std::size_t bytes, std::shared_ptr<Pool>& pool) {
    const std::lock_guard lock(mutex);
    MemoryBlock block;
    if (!scopes.empty()) pool = pool_in_use();
    if (pool != nullptr && take_free(pool->free_blocks, bytes, block)) {
      ++stats.cache_hits;
    } else if (take_free(free_blocks, bytes, block)) {
      cached -= block.bytes;
      ++stats.cache_hits;
    } else {
      release_beyond_peak(bytes);
      block = source->acquire(bytes);
      // Where the device has less than the reserve could be: as much as is wanted, then all that there is.
      const auto refused = [&] { return block.data == nullptr && block.native == nullptr; };
      if (refused() && cached > 0) {
        release_cached(bytes, bytes >= kLarge ? kLarge : 0);
        block = source->acquire(bytes);
      }
      if (refused()) {
        release_cached(cached);
        block = source->acquire(bytes);
      }
      require<DeviceError>(
          block.data != nullptr || block.native != nullptr,
          "allocate: {} has no room for {} bytes ({} bytes are in use); use a smaller batch or a shorter "
          "maximum length",
          device, bytes, stats.allocated);
      stats.reserved += bytes;
      stats.peak_reserved = std::max(stats.peak_reserved, stats.reserved);
      most_reserved = std::max(most_reserved, stats.reserved);
    }
    ++stats.allocations;
    stats.allocated += block.bytes;
    stats.peak_allocated = std::max(stats.peak_allocated, stats.allocated);
    most_allocated = std::max(most_allocated, stats.allocated);
    return block;
  }

  /// Keeps a block for reuse among `kept`; false where that itself takes memory that is not there.
  static bool keep(FreeBlocks& kept, const MemoryBlock& block) noexcept {
    auto entry = kept.end();
    try {
      entry = kept.try_emplace(block.bytes).first;
      entry->second.push_back(block);
      return true;
    } catch (const std::bad_alloc&) {
      if (entry != kept.end() && entry->second.empty()) kept.erase(entry);
      return false;
    }
  }

  /// Runs in destructors. To `pool`, where the block came from one.
  void give_back(const MemoryBlock& block, Pool* pool = nullptr) noexcept {
    const std::lock_guard lock(mutex);
    stats.allocated -= block.bytes;
    if (pool != nullptr) {
      if (keep(pool->free_blocks, block)) return;
    } else if (!closed && keep(free_blocks, block)) {
      cached += block.bytes;
      return;
    }
    source->release(block);
    stats.reserved -= block.bytes;
  }
};

CachingAllocator::Pool::~Pool() {
  const std::lock_guard lock(state->mutex);
  for (const auto& [bytes, blocks] : free_blocks) {
    for (const MemoryBlock& block : blocks) {
      state->source->release(block);
      state->stats.reserved -= bytes;
    }
  }
}

std::shared_ptr<CachingAllocator::Pool> CachingAllocator::make_pool() {
  return std::make_shared<Pool>(state_);
}

CachingAllocator::PoolScope::PoolScope(CachingAllocator& allocator, std::shared_ptr<Pool> pool)
    : allocator_(allocator), pool_(std::move(pool)) {
  const std::lock_guard lock(allocator_.state_->mutex);
  allocator_.state_->scopes.emplace_back(std::this_thread::get_id(), pool_);
}

CachingAllocator::PoolScope::~PoolScope() {
  const std::lock_guard lock(allocator_.state_->mutex);
  auto& scopes = allocator_.state_->scopes;
  for (std::size_t i = scopes.size(); i-- > 0;) {
    if (scopes[i].first != std::this_thread::get_id() || scopes[i].second != pool_) continue;
    scopes.erase(scopes.begin() + static_cast<std::ptrdiff_t>(i));
    return;
  }
}

CachingAllocator::CachingAllocator(Device device, std::unique_ptr<MemorySource> source)
    : state_(std::make_shared<State>()) {
  state_->device = device;
  state_->source = std::move(source);
}

CachingAllocator::~CachingAllocator() {
  const std::lock_guard lock(state_->mutex);
  state_->closed = true;
  state_->release_cached(state_->cached);
}

std::size_t CachingAllocator::round_up(std::size_t bytes) {
  constexpr std::size_t kMinimum = 256;
  if (bytes <= kMinimum) return kMinimum;
  // Eight classes per power of two.
  const std::size_t step = std::max<std::size_t>(std::bit_floor(bytes - 1) / 8, 64);
  return (bytes + step - 1) / step * step;
}

StoragePtr CachingAllocator::allocate(std::size_t bytes) {
  require<DeviceError>(bytes <= std::size_t{1} << 46U, "allocate: {} bytes is beyond any device", bytes);
  std::shared_ptr<Pool> pool;
  const MemoryBlock block = state_->take(round_up(bytes), pool);
  try {
    if (pool != nullptr) {
      return std::make_shared<Storage>(
          state_->device, block,
          [state = state_, pool](const MemoryBlock& freed) { state->give_back(freed, pool.get()); });
    }
    return std::make_shared<Storage>(state_->device, block,
                                     [state = state_](const MemoryBlock& freed) { state->give_back(freed); });
  } catch (const std::bad_alloc&) {
    state_->give_back(block, pool.get());
    throw;
  }
}

MemoryStats CachingAllocator::stats() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stats;
}

void CachingAllocator::reset_peaks() {
  const std::lock_guard lock(state_->mutex);
  state_->stats.peak_allocated = state_->stats.allocated;
  state_->stats.peak_reserved = state_->stats.reserved;
}

void CachingAllocator::trim() {
  const std::lock_guard lock(state_->mutex);
  state_->release_cached(state_->cached);
  state_->most_reserved = state_->stats.reserved;
  state_->most_allocated = state_->stats.allocated;
}

}  // namespace candela
