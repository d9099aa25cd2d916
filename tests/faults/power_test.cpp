#include <random>

#include "faults/disk.h"
#include "faults/interpose.h"
#include "faults/saved_adapters.h"
#include "faults/sweep.h"

/// Power lost at any moment of a save: every prefix of what was done, and any part of what no flush covers.
namespace candela::test {
namespace {

class PowerLoss : public SavedAdapters, public testing::WithParamInterface<bool> {};

TEST_P(PowerLoss, LeavesTheOldAdapterOrTheNew) {
  put_old();
  // The parent's names are part of it: a folder is put in place there.
  const std::filesystem::path root = scratch_ / "disk";
  std::filesystem::create_directory(root);
  std::filesystem::rename(folder_, root / "adapter");
  folder_ = root / "adapter";
  const Disk before(root);
  faults::record(root.string());
  GetParam() ? save_folder() : save_files();
  const std::vector<faults::Operation> operations = faults::recorded();
  ASSERT_GT(operations.size(), 10U);
  ASSERT_EQ(state_of(folder_), State::New);
  const std::filesystem::path replayed = scratch_ / "replayed";
  const Shard shard = Shard::from_environment();
  std::mt19937 draw(7 + static_cast<unsigned>(shard.index));
  long tries = 0;
  const auto check = [&](std::size_t count, double keeps) {
    before.after(operations, count, draw, keeps).write_to(replayed);
    std::string error;
    const State state = state_of(replayed / "adapter", &error);
    EXPECT_TRUE(state == State::Old || state == State::New)
        << "after " << count << " of " << operations.size() << " operations: " << error;
    EXPECT_NE(state_by_names(replayed / "adapter"), State::Mixture)
        << "after " << count << " of " << operations.size() << " operations";
    ++tries;
    return state;
  };
  for (const long count : points_of(static_cast<long>(operations.size()), 1'000'000)) {
    check(static_cast<std::size_t>(count - 1), 1);
    check(static_cast<std::size_t>(count - 1), 0);
  }
  check(operations.size(), 1);
  EXPECT_EQ(check(operations.size(), 0), State::New) << "a save that is over lasts";
  const long subsets = (full_sweep() ? 10'000 : 200) / shard.count;
  std::uniform_int_distribution<std::size_t> any(0, operations.size());
  for (long i = 0; i < subsets && !HasFailure(); ++i) check(any(draw), 0.5);
  report_tries(fmt::format("{} saved, power lost: every prefix, random parts of what no flush covers",
                           GetParam() ? "checkpoint" : "adapter"),
               tries);
}

INSTANTIATE_TEST_SUITE_P(Faults, PowerLoss, testing::Bool(),
                         [](const auto& saved) { return saved.param ? "folder" : "files"; });

}  // namespace
}  // namespace candela::test
