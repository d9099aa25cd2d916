#pragma once
// Atomics on device and threadgroup memory, relaxed as in the language.

#include "pointer.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_bool = atomic<bool>;
using atomic_ulong = atomic<ulong>;
using atomic_float = atomic<float>;

namespace detail {

template <class T>
atomic<T>* target(atomic<T>* object) {
  return object;
}
template <emulator::Space S, class T>
atomic<T>* target(const emulator::Pointer<S, atomic<T>>& pointer) {
  return &*pointer;
}
template <class P>
using atomic_value_t = decltype(target(std::declval<const P&>())->value);

/// Replaces the value by f of it and returns what was there before.
template <class P, class F>
atomic_value_t<P> update(const P& pointer, F f) {
  using T = atomic_value_t<P>;
  T* place = &target(pointer)->value;
  T old;
  __atomic_load(place, &old, __ATOMIC_RELAXED);
  for (;;) {
    T wanted = f(old);
    if (__atomic_compare_exchange(place, &old, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return old;
  }
}

}  // namespace detail

template <class P>
detail::atomic_value_t<P> atomic_load_explicit(const P& pointer, memory_order) {
  detail::atomic_value_t<P> out;
  __atomic_load(&detail::target(pointer)->value, &out, __ATOMIC_RELAXED);
  return out;
}
template <class P>
void atomic_store_explicit(const P& pointer, detail::atomic_value_t<P> value, memory_order) {
  __atomic_store(&detail::target(pointer)->value, &value, __ATOMIC_RELAXED);
}
template <class P>
detail::atomic_value_t<P> atomic_exchange_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                   memory_order) {
  return detail::update(pointer, [value](auto) { return value; });
}
/// May fail for no reason on a GPU; here it fails only if the value is another.
template <class P>
bool atomic_compare_exchange_weak_explicit(const P& pointer, detail::atomic_value_t<P>* expected,
                                           detail::atomic_value_t<P> wanted, memory_order, memory_order) {
  return __atomic_compare_exchange(&detail::target(pointer)->value, expected, &wanted, false,
                                   __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_add_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                    memory_order) {
  using T = detail::atomic_value_t<P>;
  if constexpr (std::integral<T>) {
    return __atomic_fetch_add(&detail::target(pointer)->value, value, __ATOMIC_RELAXED);
  } else {
    return detail::update(pointer, [value](T old) { return old + value; });
  }
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_sub_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                    memory_order) {
  using T = detail::atomic_value_t<P>;
  if constexpr (std::integral<T>) {
    return __atomic_fetch_sub(&detail::target(pointer)->value, value, __ATOMIC_RELAXED);
  } else {
    return detail::update(pointer, [value](T old) { return old - value; });
  }
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_max_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                    memory_order) {
  return detail::update(pointer, [value](auto old) { return old < value ? value : old; });
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_min_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                    memory_order) {
  return detail::update(pointer, [value](auto old) { return value < old ? value : old; });
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_and_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                    memory_order) {
  return detail::update(pointer, [value](auto old) { return old & value; });
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_or_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                   memory_order) {
  return detail::update(pointer, [value](auto old) { return old | value; });
}
template <class P>
detail::atomic_value_t<P> atomic_fetch_xor_explicit(const P& pointer, detail::atomic_value_t<P> value,
                                                    memory_order) {
  return detail::update(pointer, [value](auto old) { return old ^ value; });
}

}  // namespace metal
