#pragma once

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

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
/// is open: results must not depend on it.
class WorkspaceSlots {
 public:
  WorkspaceSlots(Workspace& from, std::int64_t count, std::size_t bytes) : empty_(bytes == 0) {
    if (empty_) return;
    free_.reserve(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
    for (std::int64_t i = 0; i < count; ++i) free_.push_back(from.take_part(bytes));
  }
  WorkspaceSlots(const WorkspaceSlots&) = delete;
  WorkspaceSlots& operator=(const WorkspaceSlots&) = delete;

  /// A part, held while the object lives.
  class Slot {
   public:
    explicit Slot(WorkspaceSlots& slots) : slots_(slots), workspace_(slots.acquire()) {}
    ~Slot() { slots_.release(workspace_); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    Workspace workspace() const { return workspace_; }
    /// Its first `count` elements.
    template <class T>
    T* array(std::int64_t count) const {
      return workspace().take<T>(count);
    }

   private:
    WorkspaceSlots& slots_;
    Workspace workspace_;
  };

 private:
  Workspace acquire() {
    while (!empty_) {
      {
        const std::lock_guard lock(mutex_);
        if (!free_.empty()) {
          const Workspace taken = free_.back();
          free_.pop_back();
          return taken;
        }
      }
      // The thread count was raised meanwhile: a part comes back when a body ends.
      std::this_thread::yield();
    }
    return {};
  }
  void release(const Workspace& workspace) {
    if (empty_) return;
    const std::lock_guard lock(mutex_);
    free_.push_back(workspace);
  }

  const bool empty_;
  std::mutex mutex_;
  std::vector<Workspace> free_;
};

}  // namespace candela
