#pragma once
// Stackful fibers: a stack each, and a switch that saves the callee-saved registers. They stay on one OS thread.

#include <cstddef>

namespace emulator {

class Fiber {
 public:
  using Main = void (*)();  // never returns

  /// A fiber with a stack of its own, below which a guard page lies. `number` spreads the stack tops over the cache sets.
  Fiber(Main main, std::size_t number);
  /// The fiber that stands for the OS thread's own stack.
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Suspends `from`, which must be the running fiber, and goes on with `to`.
  static void switch_to(Fiber& from, Fiber& to);
  /// To be called first by `main`: tells the address sanitizer that the switch has been made.
  static void entered();
  /// Forgets what the fiber was doing: it will start at `main` when switched to next.
  void reset();

 private:
  void prepare();

  void* stack_pointer_ = nullptr;
  std::byte* mapping_ = nullptr;
  Main main_ = nullptr;
  std::size_t number_ = 0;
  const void* stack_bottom_ = nullptr;
  std::size_t stack_bytes_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;   // address sanitizer
  [[maybe_unused]] void* tsan_fiber_ = nullptr;  // thread sanitizer
};

}  // namespace emulator
