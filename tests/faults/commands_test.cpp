#include <optional>
#include <random>

#include <candela/core/parallel.h>
#include <candela/lora/lora.h>

#include "cli/cli.h"
#include "faults/sweep.h"

/// Any sequence of commands, some of them killed, against what a user may rely on.
namespace candela::test {
namespace {

namespace fs = std::filesystem;

class Commands : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl", 8);
    set_thread_count(1);
    model_ = write_tiny_model("model");
    loaded_ = load_model(model_);
  }

  /// The alpha of the adapter in `folder`, by which the runs here differ; nothing: it does not load.
  std::optional<double> alpha_in(const fs::path& folder) const {
    try {
      Lora lora = Lora::load(*loaded_, folder);
      const double alpha = lora.config().alpha;
      lora.detach();
      return alpha;
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  /// Runs a command, killed at its `kill`-th change of a file where that is not 0.
  Outcome command(const std::string& text, long kill) const {
    const std::string fault =
        kill == 0 ? ""
                  : fmt::format("CANDELA_FAULT=change:{}:0 LD_PRELOAD='{}'", kill, CANDELA_FAULTS_LIBRARY);
    return run(text + " --threads 1", "OMP_NUM_THREADS=1 " + fault);
  }

  void expect_checkpoints_whole() const {
    for (const auto& entry : fs::directory_iterator(path("run"))) {
      const std::string name = entry.path().filename().string();
      const bool checkpoint = name.starts_with("checkpoint-") && name != "checkpoint-best";
      EXPECT_TRUE(!checkpoint || alpha_in(entry.path())) << history_ << name;
    }
  }

  /// One run into the folder. What it may hold afterwards: what was there, or, if the run got as far, its
  /// own.
  void finetune_once(std::mt19937& draw) {
    const bool overwrite = draw() % 2 == 0;
    const long kill = draw() % 3 == 0 ? 0 : 1 + static_cast<long>(draw() % 90);
    const int alpha = ++runs_;
    history_ += fmt::format("finetune alpha {} overwrite {} kill {}\n", alpha, overwrite, kill);
    const std::optional<double> before = alpha_in(path("run"));
    const Outcome result =
        command(finetune(fmt::format("--output '{}' --max-steps 2 --save-every 1 --alpha {} {}", path("run"),
                                     alpha, overwrite ? "--overwrite" : ""),
                         model_),
                kill);
    const std::optional<double> after = alpha_in(path("run"));
    const bool is_new = after == std::optional<double>(alpha);
    const std::string what = fmt::format("{}status {}: {}", history_, result.status, result.err);
    EXPECT_TRUE(result.status == 0 || result.status == 1 || result.status == 128 + SIGKILL) << what;
    EXPECT_FALSE(before && !overwrite && result.status == 0) << what;
    EXPECT_TRUE(result.status != 0 || is_new) << what;
    EXPECT_TRUE(result.status != 1 || after == before) << what;
    EXPECT_TRUE(after == before || is_new) << what;
    EXPECT_FALSE(overwrite && kill == 0 && result.status != 0) << what;
    if (exists("run")) expect_checkpoints_whole();
  }

  void merge_once(std::mt19937& draw) {
    const long kill = draw() % 2 == 0 ? 0 : 1 + static_cast<long>(draw() % 30);
    history_ += fmt::format("merge kill {}\n", kill);
    const bool there = exists("merged");
    const bool adapter = alpha_in(path("run")).has_value();
    const Outcome result = command(
        fmt::format("merge --model '{}' --adapter '{}' --output '{}'", model_, path("run"), path("merged")),
        kill);
    EXPECT_TRUE(kill != 0 || (result.status == 0) == (adapter && !there)) << history_ << result.err;
    EXPECT_FALSE(there && result.status == 0) << history_;
    if (!exists("merged")) return;
    EXPECT_NO_THROW(load_model(path("merged"))) << history_ << "a folder of that name is a whole model";
  }

  std::string model_, history_;
  std::unique_ptr<Model> loaded_;
  int runs_ = 0;
};

TEST_F(Commands, NoSequenceLosesOrMixesAnything) {
  const Shard shard = Shard::from_environment();
  const int sequences = (full_sweep() ? 1000 : 4) / static_cast<int>(shard.count);
  std::mt19937 draw(11 + static_cast<unsigned>(shard.index));
  int sequence = 0;
  for (; sequence < sequences && !HasFailure(); ++sequence) {
    history_.clear();
    fs::remove_all(path("run"));
    fs::remove_all(path("merged"));
    write("run/notes.txt", "mine");
    write("run/checkpoint-best/adapter_model.safetensors", "mine");
    for (int step = 0; step < 5 && !HasFailure(); ++step) {
      switch (draw() % 6) {
        case 0:
          merge_once(draw);
          break;
        case 1:
          history_ += "delete merged\n";
          fs::remove_all(path("merged"));
          break;
        case 2:
          history_ += "delete the adapter\n";
          fs::remove(path("run/adapter_model.safetensors"));
          fs::remove(path("run/adapter_config.json"));
          break;
        default:
          finetune_once(draw);
      }
      EXPECT_EQ(read(path("run/notes.txt")), "mine") << history_;
      EXPECT_EQ(read(path("run/checkpoint-best/adapter_model.safetensors")), "mine") << history_;
    }
  }
  report_tries("random sequences of finetune, merge, delete, overwrite, killed at any call", sequence);
}

}  // namespace
}  // namespace candela::test
