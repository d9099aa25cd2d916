#pragma once

#include <candela/core/parallel.h>

namespace candela::test {

/// Kernels work on `count` threads while it lives, and on the default number afterwards.
class ThreadCount {
 public:
  explicit ThreadCount(int count) { set_thread_count(count); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;
  ~ThreadCount() { set_thread_count(0); }
};

}  // namespace candela::test
