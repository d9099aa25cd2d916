#include "fiber.h"

#include <cstdint>
#include <cstring>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__aarch64__)
// The frame that is popped must match Fiber::prepare below.
asm(R"(
.text
.p2align 4
.globl emulator_switch_stacks
.type emulator_switch_stacks,%function
emulator_switch_stacks:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulator_switch_stacks,.-emulator_switch_stacks
)");
#elif !defined(__x86_64__)
#error "the fibers of the Metal stand-in know x86-64 and arm64"
#endif

namespace emulator {
namespace {

#if defined(EMULATOR_ASAN) || defined(EMULATOR_TSAN)
constexpr std::size_t kStackBytes = 512 * 1024;
#else
constexpr std::size_t kStackBytes = 192 * 1024;
#endif

/// Makes an odd number of pages of guard and stack: stacks a power of two apart would share a few sets of the
/// TLB.
std::size_t guard_bytes() {
  return 17 * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Fiber::Fiber() {
#if defined(EMULATOR_ASAN)
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* bottom = nullptr;
    pthread_attr_getstack(&attributes, &bottom, &stack_bytes_);
    stack_bottom_ = bottom;
    pthread_attr_destroy(&attributes);
  }
#endif
#if defined(EMULATOR_TSAN)
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(Main main, std::size_t number) : main_(main), number_(number) {
  void* mapping = mmap(nullptr, guard_bytes() + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<std::byte*>(mapping);
  if (mprotect(mapping_, guard_bytes(), PROT_NONE) != 0) {
    munmap(mapping_, guard_bytes() + kStackBytes);
    throw std::bad_alloc();
  }
  stack_bottom_ = mapping_ + guard_bytes();
  stack_bytes_ = kStackBytes;
#if defined(EMULATOR_TSAN)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
  prepare();
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#if defined(EMULATOR_TSAN)
  __tsan_destroy_fiber(tsan_fiber_);
#endif
#if defined(EMULATOR_ASAN)
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);
#endif
  munmap(mapping_, guard_bytes() + kStackBytes);
}

void Fiber::reset() {
#if defined(EMULATOR_TSAN)
  __tsan_destroy_fiber(tsan_fiber_);
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
#if defined(EMULATOR_ASAN)
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);
  fake_stack_ = nullptr;
#endif
  prepare();
}

void Fiber::prepare() {
  // Stacks are a multiple of the page apart: without the shift all hot frames would fall into the same cache
  // sets.
  const std::size_t shift = (number_ * 448) % 4096;
  auto top = reinterpret_cast<std::uintptr_t>(stack_bottom_) + stack_bytes_ - shift;
  top &= ~std::uintptr_t{63};
#if defined(__x86_64__)
  // The address to jump to, and a zero where main's own return address would be.
  std::uintptr_t frame[2] = {reinterpret_cast<std::uintptr_t>(main_), 0};
#else
  std::uintptr_t frame[20] = {};
  frame[11] = reinterpret_cast<std::uintptr_t>(main_);  // x30
#endif
  // After the jump the stack pointer is 8 below a multiple of 16, as after a call (x86-64), or a multiple of
  // 16 (arm64).
  stack_pointer_ = reinterpret_cast<void*>(top - sizeof(frame));
  std::memcpy(stack_pointer_, frame, sizeof(frame));
}

}  // namespace emulator
