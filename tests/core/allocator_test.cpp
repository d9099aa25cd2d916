#include <gtest/gtest.h>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/random.h>
#include <candela/core/storage.h>

namespace candela {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20U;

/// A device of `capacity` bytes that keeps account of what was taken from it.
class FakeMemory final : public MemorySource {
 public:
  struct Account {
    std::size_t capacity = 0;
    std::size_t held = 0, most_held = 0;
    std::size_t acquired = 0, refused = 0;  // calls
    std::set<void*> live;
    bool wrong_release = false;
  };

  explicit FakeMemory(std::shared_ptr<Account> account) : account_(std::move(account)) {}

  MemoryBlock acquire(std::size_t bytes) override {
    ++account_->acquired;
    if (account_->held + bytes > account_->capacity) {
      ++account_->refused;
      return {nullptr, nullptr, bytes};
    }
    account_->held += bytes;
    account_->most_held = std::max(account_->most_held, account_->held);
    void* data = reinterpret_cast<void*>(++next_ * 64);
    account_->live.insert(data);
    return {data, nullptr, bytes};
  }

  void release(const MemoryBlock& block) override {
    account_->wrong_release = account_->wrong_release || account_->live.erase(block.data) != 1;
    account_->held -= block.bytes;
  }

 private:
  std::shared_ptr<Account> account_;
  std::uintptr_t next_ = 0;
};

class AllocatorOn : public testing::Test {
 protected:
  std::shared_ptr<FakeMemory::Account> account = std::make_shared<FakeMemory::Account>();
  std::unique_ptr<CachingAllocator> allocator = make(1024 * kMiB);

  std::unique_ptr<CachingAllocator> make(std::size_t capacity) {
    account->capacity = capacity;
    return std::make_unique<CachingAllocator>(Device::cpu(), std::make_unique<FakeMemory>(account));
  }
};

TEST_F(AllocatorOn, SizesAreRoundedUpByAnEighthAtMost) {
  EXPECT_EQ(CachingAllocator::round_up(0), 256U);
  EXPECT_EQ(CachingAllocator::round_up(257), 320U);
  for (std::size_t bytes = 300; bytes < 64 * kMiB; bytes = bytes * 9 / 8 + 1) {
    const std::size_t rounded = CachingAllocator::round_up(bytes);
    EXPECT_GE(rounded, bytes);
    EXPECT_LE(rounded - bytes, std::max<std::size_t>(bytes / 8, 64)) << bytes;
    EXPECT_EQ(CachingAllocator::round_up(rounded), rounded);
  }
}

TEST_F(AllocatorOn, APoolKeepsItsBlocksToItself) {
  auto pool = allocator->make_pool();
  StoragePtr kept;
  void* freed = nullptr;
  {
    const CachingAllocator::PoolScope scope(*allocator, pool);
    kept = allocator->allocate(kMiB);
    freed = allocator->allocate(kMiB)->data();
    EXPECT_EQ(allocator->allocate(kMiB)->data(), freed) << "the pool's users share its blocks";
    // Other threads are no users of it.
    std::thread([&] { EXPECT_NE(allocator->allocate(kMiB)->data(), freed); }).join();
  }
  const StoragePtr other = allocator->allocate(kMiB);
  EXPECT_NE(other->data(), freed);
  allocator->trim();
  EXPECT_EQ(account->held, 3 * kMiB) << "the pool's two blocks and the other";
  {
    const CachingAllocator::PoolScope scope(*allocator, pool);
    EXPECT_EQ(allocator->allocate(kMiB)->data(), freed);
  }
  // A storage keeps the pool; with the last of both its blocks go.
  pool.reset();
  EXPECT_EQ(account->held, 3 * kMiB);
  kept.reset();
  EXPECT_EQ(account->held, kMiB);
  EXPECT_EQ(allocator->stats().reserved, kMiB);
  EXPECT_FALSE(account->wrong_release);
}

TEST_F(AllocatorOn, StatisticsFollowEveryStorage) {
  StoragePtr a = allocator->allocate(4 * kMiB);
  StoragePtr b = allocator->allocate(2 * kMiB);
  MemoryStats stats = allocator->stats();
  EXPECT_EQ(stats.allocated, 6 * kMiB);
  EXPECT_EQ(stats.reserved, 6 * kMiB);
  EXPECT_EQ(stats.allocations, 2U);
  EXPECT_EQ(stats.cache_hits, 0U);
  a.reset();
  stats = allocator->stats();
  EXPECT_EQ(stats.allocated, 2 * kMiB);
  EXPECT_EQ(stats.peak_allocated, 6 * kMiB);
  EXPECT_EQ(stats.reserved, 6 * kMiB);
  a = allocator->allocate(4 * kMiB);
  EXPECT_EQ(allocator->stats().cache_hits, 1U);
  b.reset();
  allocator->reset_peaks();
  EXPECT_EQ(allocator->stats().peak_allocated, 4 * kMiB);
  EXPECT_EQ(allocator->stats().peak_reserved, 6 * kMiB);
  EXPECT_EQ(account->acquired, 2U);
}

TEST_F(AllocatorOn, LargerBlocksServeDownToTwoThirds) {
  allocator->allocate(6 * kMiB).reset();
  EXPECT_EQ(allocator->allocate(4 * kMiB)->bytes(), 6 * kMiB);
  EXPECT_EQ(allocator->allocate(3 * kMiB)->bytes(), 3 * kMiB);
}

TEST_F(AllocatorOn, TheReserveGrowsOnlyWhenTheNeedDoes) {
  for (std::size_t size = 1; size <= 64; ++size) allocator->allocate(size * kMiB / 2).reset();
  // Sizes that differ from step to step: without the bound, all of them would be kept.
  EXPECT_LE(account->most_held, 32 * kMiB);
  EXPECT_EQ(allocator->stats().peak_reserved, account->most_held);
}

TEST_F(AllocatorOn, SmallBlocksDoNotPushLargeOnesOut) {
  allocator->allocate(64 * kMiB).reset();
  for (int step = 0; step < 4; ++step) {
    allocator->allocate(kMiB / 256).reset();
    allocator->allocate(64 * kMiB).reset();
  }
  EXPECT_EQ(account->acquired, 2U);
}

TEST_F(AllocatorOn, ScratchOfTwoSizesDoesNotTakeTurns) {
  const StoragePtr operands = allocator->allocate(128 * kMiB);
  for (int step = 0; step < 4; ++step) {
    allocator->allocate(kMiB).reset();
    allocator->allocate(2 * kMiB).reset();
  }
  EXPECT_EQ(account->acquired, 3U);
  // The slack is small: for a third size, one of them must go.
  allocator->allocate(4 * kMiB).reset();
  EXPECT_EQ(account->held, 134 * kMiB);
}

TEST_F(AllocatorOn, WhereTheSlackDoesNotFitNoMoreIsGivenBackThanIsWanted) {
  allocator = make(115 * kMiB + kMiB / 4);
  const StoragePtr operands = allocator->allocate(112 * kMiB);
  allocator->allocate(kMiB).reset();
  allocator->allocate(2 * kMiB).reset();
  allocator->allocate(kMiB / 2).reset();
  EXPECT_EQ(account->refused, 1U);
  EXPECT_EQ(account->held, 114 * kMiB + kMiB / 2);  // the block of 1 MiB had to go
}

TEST_F(AllocatorOn, TrimGivesBackWhatIsCached) {
  const StoragePtr kept = allocator->allocate(kMiB);
  allocator->allocate(8 * kMiB).reset();
  EXPECT_EQ(account->held, 9 * kMiB);
  allocator->trim();
  EXPECT_EQ(account->held, kMiB);
  EXPECT_EQ(allocator->stats().reserved, kMiB);
}

TEST_F(AllocatorOn, AFailedAllocationChangesNothing) {
  allocator = make(16 * kMiB);
  allocator->allocate(8 * kMiB).reset();
  const MemoryStats before = allocator->stats();
  EXPECT_THROW(allocator->allocate(512 * kMiB), DeviceError);
  const MemoryStats after = allocator->stats();
  EXPECT_EQ(after.allocated, before.allocated);
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.peak_reserved, before.peak_reserved);
  // And the bound on the reserve is as it was: without it, all of these would be kept.
  for (std::size_t size = 1; size <= 16; ++size) allocator->allocate(size * kMiB / 2).reset();
  EXPECT_LE(account->held, 8 * kMiB);
}

TEST_F(AllocatorOn, CachedBlocksMakeRoomForALargerOne) {
  allocator = make(16 * kMiB);
  std::vector<StoragePtr> held;
  for (int i = 0; i < 4; ++i) held.push_back(allocator->allocate(3 * kMiB));
  held.clear();
  EXPECT_EQ(allocator->allocate(14 * kMiB)->bytes(), 14 * kMiB);
}

TEST_F(AllocatorOn, ErrorsNameTheSizeAndWhatIsInUse) {
  allocator = make(4 * kMiB);
  const StoragePtr kept = allocator->allocate(3 * kMiB);
  try {
    allocator->allocate(2 * kMiB);
    FAIL() << "no error";
  } catch (const DeviceError& error) {
    EXPECT_STREQ(
        error.what(),
        "allocate: cpu has no room for 2097152 bytes (3145728 bytes are in use); use a smaller batch "
        "or a shorter maximum length");
  }
}

TEST_F(AllocatorOn, StoragesOutliveTheirAllocator) {
  StoragePtr kept = allocator->allocate(kMiB);
  allocator->allocate(2 * kMiB).reset();
  allocator.reset();
  EXPECT_EQ(account->held, kMiB);
  kept.reset();
  EXPECT_EQ(account->held, 0U);
  EXPECT_FALSE(account->wrong_release);
}

TEST_F(AllocatorOn, ThreadsNeverShareABlock) {
  std::vector<std::thread> threads;
  std::atomic<int> clashes{0};
  std::mutex mutex;
  std::set<void*> in_use;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      Generator generator(seed);
      std::vector<StoragePtr> mine;
      for (int i = 0; i < 2000; ++i) {
        if (mine.size() > 8 || (!mine.empty() && generator.next_below(2) == 0)) {
          const std::lock_guard lock(mutex);
          in_use.erase(mine.back()->data());
          mine.pop_back();
          continue;
        }
        mine.push_back(allocator->allocate((1 + generator.next_below(64)) * 4096));
        const std::lock_guard lock(mutex);
        if (!in_use.insert(mine.back()->data()).second) ++clashes;
      }
      const std::lock_guard lock(mutex);
      for (const StoragePtr& storage : mine) in_use.erase(storage->data());
      mine.clear();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(clashes, 0);
  EXPECT_EQ(allocator->stats().allocated, 0U);
  EXPECT_EQ(allocator->stats().reserved, account->held);
  allocator->trim();
  EXPECT_EQ(account->held, 0U);
  EXPECT_FALSE(account->wrong_release);
}

}  // namespace
}  // namespace candela
