#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

#include <candela/core/parallel.h>

#include "backend/workspace.h"

namespace candela {

/// Bodies of `parallel_for(count, grain, ...)` that run at the same time.
inline std::int64_t concurrent_bodies(std::int64_t count, std::int64_t grain) {
  if (count <= 0 || in_parallel()) return std::min<std::int64_t>(count, 1);
  const std::int64_t step = std::max<std::int64_t>(grain, 1);
  return std::min<std::int64_t>(count / step + (count % step != 0 ? 1 : 0), std::max(thread_count(), 1));
}

/// Equal parts of a workspace, each held by one body of a parallel loop at a time. Which body gets which part
/// is open: results must not depend on it. No lock: threads that begin an op together would sleep on it.
class WorkspaceSlots {
  /// In a cache line of its own.
  struct alignas(64) Part {
    std::atomic<bool> held{false};
    Workspace workspace;
  };

 public:
  WorkspaceSlots(Workspace& from, std::int64_t count, std::size_t bytes)
      : count_(bytes == 0 || count <= 0 ? 0 : static_cast<std::size_t>(count)),
        parts_(std::make_unique<Part[]>(count_)) {
    for (std::size_t i = 0; i < count_; ++i) parts_[i].workspace = from.take_part(bytes);
  }
  WorkspaceSlots(const WorkspaceSlots&) = delete;
  WorkspaceSlots& operator=(const WorkspaceSlots&) = delete;

  /// A part, held while the object lives.
  class Slot {
   public:
    explicit Slot(WorkspaceSlots& slots) : part_(slots.acquire()) {}
    ~Slot() {
      if (part_ != nullptr) part_->held.store(false, std::memory_order_release);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    Workspace workspace() const { return part_ == nullptr ? Workspace() : part_->workspace; }
    /// Its first `count` elements.
    template <class T>
    T* array(std::int64_t count) const {
      return workspace().take<T>(count);
    }

   private:
    Part* part_;
  };

 private:
  Part* acquire() {
    if (count_ == 0) return nullptr;
    for (std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);; ++i) {
      Part& part = parts_[i % count_];
      if (!part.held.exchange(true, std::memory_order_acquire)) return &part;
      // All may be held where the thread count was raised meanwhile: a part comes back when a body ends.
      if (i % count_ == count_ - 1) std::this_thread::yield();
    }
  }

  std::size_t count_;
  std::unique_ptr<Part[]> parts_;
  std::atomic<std::size_t> next_{0};
};

}  // namespace candela
