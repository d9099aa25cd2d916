#include <cerrno>

#include "cli/cli.h"
#include "faults/sweep.h"

/// A disk that fills, and other failures, while a run saves its checkpoints.
namespace candela::test {
namespace {

namespace fs = std::filesystem;

class CheckpointSweep : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl", 12);
    model_ = write_tiny_model("model");
  }
  /// Six steps with a checkpoint behind each.
  std::string command(const std::string& output) const {
    return finetune(
        fmt::format("--output '{}' --save-every 1 --keep-checkpoints 9 --threads 1", path(output)), model_);
  }
  Outcome failing(const std::string& command, const std::string& fault) const {
    return run(command, fmt::format("CANDELA_FAULT={} CANDELA_FAULT_COUNT='{}' LD_PRELOAD='{}'", fault,
                                    path("count"), CANDELA_FAULTS_LIBRARY));
  }
  std::string weights(const std::string& output) const {
    return read(path(output + "/adapter_model.safetensors"));
  }

  std::string model_;
};

/// Whatever fails, from one call on or once: the run ends well or with an error, and from the last checkpoint
/// that is there a resumed run gets to the bits of the unbroken one.
TEST_F(CheckpointSweep, WhateverFailsTheRunGoesOnToTheBitsOfTheUnbrokenOne) {
  ASSERT_EQ(run(command("whole")).status, 0);
  const std::string expected = weights("whole");
  long tries = 0;
  long resumed = 0;
  for (const char* call : {"open", "write", "fsync", "rename", "mkdir", "unlink"}) {
    ASSERT_EQ(failing(command("counted"), fmt::format("{}:1000000000:28", call)).status, 0);
    const long count = std::atol(read(path("count")).c_str());
    fs::remove_all(path("counted"));
    for (const int error : full_sweep() ? std::vector<int>{ENOSPC, EIO} : std::vector<int>{ENOSPC}) {
      for (const bool onwards : {false, true}) {
        for (const long at : points_of(count, 2)) {
          const std::string what =
              fmt::format("{} {}{} of {}, errno {}", call, at, onwards ? "+" : "", count, error);
          fs::remove_all(path("run"));
          const Outcome outcome =
              failing(command("run"), fmt::format("{}:{}{}:{}", call, at, onwards ? "+" : "", error));
          ASSERT_TRUE(outcome.status == 0 || outcome.status == 1) << what << ": " << outcome.err;
          EXPECT_TRUE(outcome.status != 0 || weights("run") == expected) << what;
          ++tries;
          if (outcome.status == 0) continue;
          EXPECT_TRUE(outcome.says("candela: error: ")) << what << outcome.err;
          const Outcome again = run(fmt::format("finetune --resume '{}'", path("run")));
          if (again.says("holds no checkpoint") || again.says("is no folder")) continue;
          EXPECT_EQ(again.status, 0) << what << again.err;
          EXPECT_EQ(weights("run"), expected) << what;
          ++resumed;
        }
      }
    }
  }
  EXPECT_TRUE(resumed > 0 || Shard::from_environment().count > 1);
  report_tries("finetune with checkpoints, a system call failing (ENOSPC, EIO; once, from then on), resumed",
               tries);
}

}  // namespace
}  // namespace candela::test
