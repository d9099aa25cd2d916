#pragma once
// Barriers, and the operations in which the lanes of a simdgroup take part. Every lane that has not returned
// must reach each of them, at the same place in the source.

#include "math.h"

namespace metal {

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<uint>(a) | static_cast<uint>(b));
}

inline void threadgroup_barrier(mem_flags, emulator::Site site = emulator::Site::here()) {
  emulator::current_launch->meet_threadgroup(site);
}
inline void simdgroup_barrier(mem_flags, emulator::Site site = emulator::Site::here()) {
  emulator::current_launch->meet_simdgroup("simdgroup_barrier", site, 0);
}

namespace detail {

using emulator::Site;

/// One operation of a simdgroup as a lane sees it: what it gives, then what all gave.
template <class T>
class Meeting {
  static_assert(sizeof(T) <= emulator::kSlotBytes, "a SIMD operation exchanges at most 32 bytes per lane");

 public:
  Meeting(const char* operation, const Site& site, const T& value, std::uint64_t argument = 0)
      : launch_(*emulator::current_launch), lane_(launch_.lane()), exchange_(launch_.next_exchange()) {
    if (launch_.simdgroup().waiting == 0) {
      exchange_.active = 0;
      exchange_.reduced = false;
    }
    exchange_.active |= 1u << lane_;
    put(lane_, value);
    launch_.meet_simdgroup(operation, site, argument);
  }
  uint lane() const { return lane_; }
  uint active() const { return exchange_.active; }
  bool is_active(uint lane) const {
    return lane < emulator::kSimdWidth && (exchange_.active >> lane & 1) != 0;
  }
  T get(uint lane) const {
    T out;
    std::memcpy(static_cast<void*>(&out), exchange_.slots[lane].data(), sizeof(T));
    return out;
  }
  T get_active(const char* operation, uint lane) const {
    if (!is_active(lane)) [[unlikely]] {
      launch_.fault(std::string(operation) + ": lane " + std::to_string(lane_) + " reads from lane " +
                    std::to_string(lane) + ", which is not active");
    }
    return get(lane);
  }
  /// The result that is the same for all lanes: computed by the first that comes here, kept in slot 0.
  template <class F>
  T once(F compute) {
    if (!exchange_.reduced) {
      put(0, compute(*this));
      exchange_.reduced = true;
    }
    return get(0);
  }

 private:
  void put(uint lane, const T& value) {
    std::memcpy(exchange_.slots[lane].data(), static_cast<const void*>(&value), sizeof(T));
  }

  emulator::Launch& launch_;
  uint lane_;
  emulator::SimdExchange& exchange_;
};

/// Combines the active lanes as a tree: halves are folded onto each other, 16 lanes apart first.
template <class T, class F>
T reduce(const char* operation, const Site& site, const T& value, F combine) {
  Meeting<T> meeting(operation, site, value);
  return meeting.once([&combine](const Meeting<T>& all) {
    T values[emulator::kSimdWidth];
    uint active = all.active();
    for (uint lane = 0; lane < emulator::kSimdWidth; ++lane) {
      if ((active >> lane & 1) != 0) values[lane] = all.get(lane);
    }
    for (uint step = emulator::kSimdWidth / 2; step > 0; step /= 2) {
      for (uint lane = 0; lane < step; ++lane) {
        const bool left = (active >> lane & 1) != 0, right = (active >> (lane + step) & 1) != 0;
        if (left && right) {
          values[lane] = combine(values[lane], values[lane + step]);
        } else if (right) {
          values[lane] = values[lane + step];
          active |= 1u << lane;
        }
      }
    }
    return values[0];
  });
}

}  // namespace detail

template <detail::ScalarOrVector T>
T simd_sum(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_sum", site, x, [](const T& a, const T& b) { return static_cast<T>(a + b); });
}
template <detail::ScalarOrVector T>
T simd_product(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_product", site, x,
                        [](const T& a, const T& b) { return static_cast<T>(a * b); });
}
template <detail::ScalarOrVector T>
T simd_max(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_max", site, x, [](const T& a, const T& b) { return metal::max(a, b); });
}
template <detail::ScalarOrVector T>
T simd_min(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_min", site, x, [](const T& a, const T& b) { return metal::min(a, b); });
}
template <Integer T>
T simd_and(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_and", site, x, [](T a, T b) { return static_cast<T>(a & b); });
}
template <Integer T>
T simd_or(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_or", site, x, [](T a, T b) { return static_cast<T>(a | b); });
}
template <Integer T>
T simd_xor(T x, detail::Site site = detail::Site::here()) {
  return detail::reduce("simd_xor", site, x, [](T a, T b) { return static_cast<T>(a ^ b); });
}

template <class T>
T simd_shuffle(T x, ushort lane, detail::Site site = detail::Site::here()) {
  return detail::Meeting<T>("simd_shuffle", site, x).get_active("simd_shuffle", lane);
}
template <class T>
T simd_broadcast(T x, ushort lane, detail::Site site = detail::Site::here()) {
  return detail::Meeting<T>("simd_broadcast", site, x, lane).get_active("simd_broadcast", lane);
}
template <class T>
T simd_broadcast_first(T x, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("simd_broadcast_first", site, x);
  return meeting.get(static_cast<uint>(std::countr_zero(meeting.active())));
}
template <class T>
T simd_shuffle_xor(T x, ushort mask, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("simd_shuffle_xor", site, x, mask);
  return meeting.get_active("simd_shuffle_xor", meeting.lane() ^ mask);
}
/// From the lane `delta` above; the upper lanes keep their own.
template <class T>
T simd_shuffle_down(T x, ushort delta, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("simd_shuffle_down", site, x, delta);
  const uint from = meeting.lane() + delta;
  return from < emulator::kSimdWidth ? meeting.get_active("simd_shuffle_down", from) : x;
}
template <class T>
T simd_shuffle_up(T x, ushort delta, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("simd_shuffle_up", site, x, delta);
  return meeting.lane() >= delta ? meeting.get_active("simd_shuffle_up", meeting.lane() - delta) : x;
}
template <class T>
T simd_shuffle_rotate_down(T x, ushort delta, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("simd_shuffle_rotate_down", site, x, delta);
  return meeting.get_active("simd_shuffle_rotate_down", (meeting.lane() + delta) % emulator::kSimdWidth);
}
template <class T>
T simd_shuffle_rotate_up(T x, ushort delta, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("simd_shuffle_rotate_up", site, x, delta);
  return meeting.get_active(
      "simd_shuffle_rotate_up",
      (meeting.lane() + emulator::kSimdWidth - delta % emulator::kSimdWidth) % emulator::kSimdWidth);
}

namespace detail {

/// The lane that a shuffle-and-fill reads, and whether from the filling data. `modulo` lanes form a block of
/// their own.
struct FillSource {
  uint lane;
  bool filling;
};
inline FillSource fill_down(uint lane, uint delta, uint modulo) {
  const uint first = lane / modulo * modulo, from = lane - first + delta;
  return from < modulo ? FillSource{first + from, false} : FillSource{first + from % modulo, true};
}
inline FillSource fill_up(uint lane, uint delta, uint modulo) {
  const uint first = lane / modulo * modulo, in_block = lane - first;
  if (in_block >= delta) return {lane - delta, false};
  return {first + (in_block + modulo - delta % modulo) % modulo, true};
}
template <class T, class F>
T shuffle_and_fill(const char* operation, const Site& site, T data, T filling, ushort delta, ushort modulo,
                   F source) {
  struct Both {
    T data, filling;
  };
  const Meeting<Both> meeting(operation, site, {data, filling}, std::uint64_t{modulo} << 16 | delta);
  const FillSource from = source(meeting.lane(), delta, modulo);
  const Both both = meeting.get_active(operation, from.lane);
  return from.filling ? both.filling : both.data;
}

}  // namespace detail

template <class T>
T simd_shuffle_and_fill_down(T data, T filling, ushort delta, ushort modulo = 32,
                             detail::Site site = detail::Site::here()) {
  return detail::shuffle_and_fill("simd_shuffle_and_fill_down", site, data, filling, delta, modulo,
                                  detail::fill_down);
}
template <class T>
T simd_shuffle_and_fill_up(T data, T filling, ushort delta, ushort modulo = 32,
                           detail::Site site = detail::Site::here()) {
  return detail::shuffle_and_fill("simd_shuffle_and_fill_up", site, data, filling, delta, modulo,
                                  detail::fill_up);
}

namespace detail {

/// Folds the active lanes below this one, and this one too if `inclusive`, in order.
template <class T, class F>
T prefix(const char* operation, const Site& site, T x, T identity, bool inclusive, F combine) {
  const Meeting<T> meeting(operation, site, x);
  T out = identity;
  for (uint lane = 0; lane < meeting.lane(); ++lane) {
    if (meeting.is_active(lane)) out = static_cast<T>(combine(out, meeting.get(lane)));
  }
  return inclusive ? static_cast<T>(combine(out, x)) : out;
}

}  // namespace detail

template <detail::ScalarOrVector T>
T simd_prefix_inclusive_sum(T x, detail::Site site = detail::Site::here()) {
  return detail::prefix("simd_prefix_inclusive_sum", site, x, T(0), true,
                        [](const T& a, const T& b) { return a + b; });
}
template <detail::ScalarOrVector T>
T simd_prefix_exclusive_sum(T x, detail::Site site = detail::Site::here()) {
  return detail::prefix("simd_prefix_exclusive_sum", site, x, T(0), false,
                        [](const T& a, const T& b) { return a + b; });
}
template <detail::ScalarOrVector T>
T simd_prefix_inclusive_product(T x, detail::Site site = detail::Site::here()) {
  return detail::prefix("simd_prefix_inclusive_product", site, x, T(1), true,
                        [](const T& a, const T& b) { return a * b; });
}
template <detail::ScalarOrVector T>
T simd_prefix_exclusive_product(T x, detail::Site site = detail::Site::here()) {
  return detail::prefix("simd_prefix_exclusive_product", site, x, T(1), false,
                        [](const T& a, const T& b) { return a * b; });
}

/// A bit per lane.
class simd_vote {
 public:
  using vote_t = ulong;
  explicit constexpr simd_vote(vote_t bits = 0) : bits_(bits) {}
  explicit constexpr operator vote_t() const { return bits_; }
  bool any() const { return bits_ != 0; }
  bool all() const { return bits_ == 0xffffffffu; }

 private:
  vote_t bits_;
};

namespace detail {

/// (lanes that say true, lanes that were asked)
inline uint2 vote(const char* operation, const Site& site, bool value) {
  Meeting<uint2> meeting(operation, site, uint2(value, 0u));
  return meeting.once([](const Meeting<uint2>& all) {
    uint bits = 0;
    for (uint lane = 0; lane < emulator::kSimdWidth; ++lane) {
      if (all.is_active(lane) && all.get(lane).x != 0) bits |= 1u << lane;
    }
    return uint2(bits, all.active());
  });
}

}  // namespace detail

inline simd_vote simd_ballot(bool value, detail::Site site = detail::Site::here()) {
  return simd_vote(detail::vote("simd_ballot", site, value).x);
}
inline bool simd_all(bool value, detail::Site site = detail::Site::here()) {
  const uint2 votes = detail::vote("simd_all", site, value);
  return votes.x == votes.y;
}
inline bool simd_any(bool value, detail::Site site = detail::Site::here()) {
  return detail::vote("simd_any", site, value).x != 0;
}
inline simd_vote simd_active_threads_mask(detail::Site site = detail::Site::here()) {
  return simd_vote(detail::vote("simd_active_threads_mask", site, true).y);
}
inline bool simd_is_first(detail::Site site = detail::Site::here()) {
  const detail::Meeting<uint> meeting("simd_is_first", site, 0u);
  return static_cast<uint>(std::countr_zero(meeting.active())) == meeting.lane();
}
inline bool simd_is_helper_thread() {
  return false;
}

// Operations over four neighbouring lanes. All lanes of the simdgroup take part, each quad for itself.
namespace detail {
template <class T, class F>
T quad_reduce(const char* operation, const Site& site, const T& x, F combine) {
  const Meeting<T> meeting(operation, site, x);
  const uint first = meeting.lane() / 4 * 4;
  T out = x;
  bool started = false;
  for (uint lane = first; lane < first + 4; ++lane) {
    if (!meeting.is_active(lane)) continue;
    out = started ? static_cast<T>(combine(out, meeting.get(lane))) : meeting.get(lane);
    started = true;
  }
  return out;
}
}  // namespace detail

template <detail::ScalarOrVector T>
T quad_sum(T x, detail::Site site = detail::Site::here()) {
  return detail::quad_reduce("quad_sum", site, x, [](const T& a, const T& b) { return a + b; });
}
template <detail::ScalarOrVector T>
T quad_max(T x, detail::Site site = detail::Site::here()) {
  return detail::quad_reduce("quad_max", site, x, [](const T& a, const T& b) { return metal::max(a, b); });
}
template <detail::ScalarOrVector T>
T quad_min(T x, detail::Site site = detail::Site::here()) {
  return detail::quad_reduce("quad_min", site, x, [](const T& a, const T& b) { return metal::min(a, b); });
}
template <class T>
T quad_shuffle_xor(T x, ushort mask, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("quad_shuffle_xor", site, x, mask);
  return meeting.get_active("quad_shuffle_xor", meeting.lane() ^ (mask & 3u));
}
template <class T>
T quad_broadcast(T x, ushort lane, detail::Site site = detail::Site::here()) {
  const detail::Meeting<T> meeting("quad_broadcast", site, x, lane);
  return meeting.get_active("quad_broadcast", meeting.lane() / 4 * 4 + lane % 4);
}

}  // namespace metal
