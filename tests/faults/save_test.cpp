#include <cerrno>

#include "faults/interpose.h"
#include "faults/saved_adapters.h"
#include "faults/sweep.h"

/// An adapter that is saved over another, and everything that can go wrong on the way.
namespace candela::test {
namespace {

using faults::Call;

constexpr Call kCalls[] = {Call::Open,   Call::Write, Call::Fsync,    Call::Rename,
                           Call::Unlink, Call::Mkdir, Call::Ftruncate};
constexpr int kErrors[] = {ENOSPC, EIO, EINTR, EMFILE};

/// As files of their own, and as a folder.
class SaveSweep : public SavedAdapters, public testing::WithParamInterface<bool> {
 protected:
  void save() const { GetParam() ? save_folder() : save_files(); }
  const char* name() const { return GetParam() ? "checkpoint" : "adapter"; }

  /// Calls of this kind in a save that nothing hinders.
  long calls(Call call) const {
    put_old();
    faults::count();
    save();
    return faults::disarm(call);
  }
};

TEST_P(SaveSweep, KilledAtAnyCallTheOldAdapterOrTheNewIsThere) {
  const long count = calls(Call::Change);
  ASSERT_GT(count, 10);
  const std::vector<long> points = points_of(count, count);
  for (const long at : points) {
    put_old();
    const int code = in_child([&] {
      faults::arm(Call::Change, at, false, 0);
      save();
    });
    ASSERT_EQ(code, 128 + SIGKILL) << at;
    std::string error;
    const State state = state_of(folder_, &error);
    EXPECT_TRUE(state == State::Old || state == State::New) << "killed at call " << at << ": " << error;
    EXPECT_NE(state_by_names(folder_), State::Mixture) << "killed at call " << at;
    EXPECT_EQ(after_effect(GetParam()), "") << at;
  }
  report_tries(fmt::format("{} saved, SIGKILL at every system call that changes something", name()),
               static_cast<long>(points.size()));
}

TEST_P(SaveSweep, WhateverCallFailsTheErrorIsToldAndTheOldAdapterOrTheNewIsThere) {
  long tries = 0;
  for (const Call call : kCalls) {
    const long count = calls(call);
    for (const bool onwards : {false, true}) {
      for (const int failure : kErrors) {
        if (onwards && failure == EINTR) continue;  // what is interrupted for ever is tried for ever
        for (const long at : points_of(count, count)) {
          put_old();
          const int code = in_child([&] {
            faults::arm(call, at, onwards, failure);
            save();
          });
          const std::string what = fmt::format("call kind {} number {}{}, errno {}", static_cast<int>(call),
                                               at, onwards ? "+" : "", failure);
          ASSERT_TRUE(code == kDone || code == kRefused) << what << ": " << code;
          std::string error;
          const State state = state_of(folder_, &error);
          EXPECT_TRUE(state == State::New || (state == State::Old && code == kRefused)) << what << error;
          EXPECT_NE(state_by_names(folder_), State::Mixture) << what;
          EXPECT_EQ(after_effect(GetParam()), "") << what;
          ++tries;
        }
      }
    }
  }
  report_tries(
      fmt::format("{} saved, a system call failing (ENOSPC, EIO, EINTR, EMFILE; once, from then on)", name()),
      tries);
}

TEST_P(SaveSweep, WhateverAllocationFailsTheOldAdapterOrTheNewIsThere) {
  const long count = calls(Call::Allocate);
  long tries = 0;
  for (const bool onwards : {false, true}) {
    std::vector<long> points = points_of(count, 60);
    // The commit comes last: each of its allocations.
    constexpr long kLast = 24;
    for (long at = std::max(points.back() + 1, count - kLast); at <= count && !full_sweep(); ++at)
      points.push_back(at);
    for (const long at : points) {
      put_old();
      const int code = in_child([&] {
        faults::arm(Call::Allocate, at, onwards, ENOMEM);
        save();
      });
      ASSERT_TRUE(code == kDone || code == kRefused) << at << (onwards ? "+" : "") << ": " << code;
      const State state = state_of(folder_);
      EXPECT_TRUE(code == kDone ? state == State::New : state == State::Old || state == State::New) << at;
      EXPECT_EQ(after_effect(GetParam()), "") << at;
      ++tries;
    }
  }
  report_tries(fmt::format("{} saved, an allocation failing (once, from then on)", name()), tries);
}

INSTANTIATE_TEST_SUITE_P(Faults, SaveSweep, testing::Bool(),
                         [](const auto& saved) { return saved.param ? "folder" : "files"; });

}  // namespace
}  // namespace candela::test
