#pragma once

#include <cstdint>
#include <gtest/gtest.h>
#if defined(CANDELA_RAPIDCHECK)
#include <rapidcheck.h>
#else
#include <candela/core/random.h>
#endif

/// Properties: what holds for any arguments. RapidCheck draws them, and makes those that fail smaller, where
/// the platform packages it; elsewhere a seeded generator draws.
namespace candela::test {

/// The arguments of one trial.
class Draw {
 public:
  explicit Draw(std::uint64_t trial);

  /// A whole number in [low, high].
  std::int64_t in(std::int64_t low, std::int64_t high);
  /// Any 64 bits.
  std::uint64_t seed();

#if !defined(CANDELA_RAPIDCHECK)
 private:
  Generator generator_;
#endif
};

#if defined(CANDELA_RAPIDCHECK)

inline Draw::Draw(std::uint64_t) {}
inline std::int64_t Draw::in(std::int64_t low, std::int64_t high) {
  return *rc::gen::inRange(low, high + 1);
}
inline std::uint64_t Draw::seed() {
  return *rc::gen::arbitrary<std::uint64_t>();
}

/// Expects property(draw) to be true in each of 100 trials.
template <class Property>
void check_property(const char* what, Property&& property) {
  EXPECT_TRUE(rc::check(what, [&] {
    Draw draw(0);
    RC_ASSERT(property(draw));
  }));
}

#else

inline Draw::Draw(std::uint64_t trial) : generator_(trial) {}
inline std::int64_t Draw::in(std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(generator_.next_below(static_cast<std::uint64_t>(high - low + 1)));
}
inline std::uint64_t Draw::seed() {
  return generator_.next_below(std::uint64_t{1} << 63U);
}

template <class Property>
void check_property(const char* what, Property&& property) {
  for (std::uint64_t trial = 0; trial < 100; ++trial) {
    Draw draw(trial);
    ASSERT_TRUE(property(draw)) << what << ": trial " << trial;
  }
}

#endif

}  // namespace candela::test
