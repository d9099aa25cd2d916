#pragma once
// Stackful fibers: a stack each, and a switch that saves the callee-saved registers. They stay on one OS
// thread.

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATOR_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define EMULATOR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMULATOR_TSAN 1
#endif
#endif

#if defined(EMULATOR_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(EMULATOR_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace emulator {

class Fiber {
 public:
  using Main = void (*)();  // never returns

  /// A fiber with a stack of its own, below which a guard page lies. `number` spreads the stack tops over the
  /// cache sets.
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
  [[maybe_unused]] void* fake_stack_ = nullptr;  // address sanitizer
  [[maybe_unused]] void* tsan_fiber_ = nullptr;  // thread sanitizer
};

namespace detail {

#if defined(__x86_64__)
/// Inline, and with a jump in place of `ret`: a call or return here that has no counterpart would make the
/// processor mispredict every return that follows the switch. What the callee must keep and the compiler does
/// not save is pushed, below the 128 bytes under the stack pointer that the compiler may be using.
[[gnu::always_inline]] inline void switch_stacks(void** save, void* load) {
  asm volatile(R"(
    leaq -128(%%rsp), %%rsp
    pushq %%rbp
    pushq %%rbx
    leaq 1f(%%rip), %%rax
    pushq %%rax
    movq %%rsp, (%%rdi)
    movq %%rsi, %%rsp
    popq %%rax
    jmpq *%%rax
1:
    popq %%rbx
    popq %%rbp
    leaq 128(%%rsp), %%rsp
  )"
               : "+D"(save), "+S"(load)
               :
               : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                 "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                 "xmm13", "xmm14", "xmm15", "memory", "cc");
}
#else
extern "C" void emulator_switch_stacks(void** save, void* load);
inline void switch_stacks(void** save, void* load) {
  emulator_switch_stacks(save, load);
}
#endif

}  // namespace detail

inline void Fiber::switch_to(Fiber& from, Fiber& to) {
#if defined(EMULATOR_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
#if defined(EMULATOR_TSAN)
  __tsan_switch_to_fiber(to.tsan_fiber_, 0);
#endif
  detail::switch_stacks(&from.stack_pointer_, to.stack_pointer_);
#if defined(EMULATOR_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

inline void Fiber::entered() {
#if defined(EMULATOR_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace emulator
