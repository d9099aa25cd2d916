#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

/// The one pool of host threads: the same one oneDNN uses, so that the machine is never oversubscribed.
namespace candela {

/// A non-owning reference to a callable `void(begin, end)`.
class RangeFunction {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, RangeFunction>>>
  RangeFunction(F&& function)  // NOLINT(google-explicit-constructor): stands for the lambda at the call
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
        call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// Splits [0, count) into one contiguous range per thread, none smaller than `grain` (but the last), and
/// calls `body(begin, end)` on each. The split depends on count, grain and thread_count() alone, so results
/// that depend on it repeat. A call from inside a body runs serially. An exception of a body reaches the
/// caller.
void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body);

/// Whether the caller runs inside a body of parallel_for.
bool in_parallel();

int thread_count();
/// Sets the number of threads for all ops; 0 takes every core this process may use.
void set_thread_count(int count);

}  // namespace candela
