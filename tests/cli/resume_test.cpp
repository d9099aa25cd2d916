#include <csignal>
#include <cstdlib>
#include <random>

#include <candela/ops/copy.h>

#include "cli/cli.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

class Resume : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl", 40);
    write_rows("held.jsonl", 6);
  }
  /// With dropout, accumulation and validation: 10 steps of 2 batches.
  std::string options(const std::string& output, const std::string& model) const {
    return fmt::format(
        "finetune --model '{}' --data '{}' --valid '{}' --output '{}' --rank 4 --batch-size 2 --accumulation "
        "2 "
        "--epochs 1 --learning-rate 1e-2 --dropout 0.1 --validate-every 3 --save-every 2 --quiet",
        model, path("rows.jsonl"), path("held.jsonl"), path(output));
  }
  /// What of a run's folder must be the same bits: the adapter, and what each step gave.
  std::string made(const std::string& output) const {
    std::string text = read(path(output + "/adapter_model.safetensors"));
    std::ifstream in(path(output + "/metrics.jsonl"));
    for (std::string line; std::getline(in, line);) {
      const auto json = nlohmann::json::parse(line);
      text +=
          fmt::format("\n{} {} {} {} {}", json["step"].dump(), json["loss"].dump(), json["grad_norm"].dump(),
                      json["tokens"].dump(), json.value("validation_loss", nlohmann::json()).dump());
    }
    return text;
  }
  int checkpoints(const std::string& output) const {
    int count = 0;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path(output), error)) {
      if (entry.path().filename().string().starts_with("checkpoint-")) ++count;
    }
    return count;
  }
};

/// CANDELA_KILLS: how many, 6 where it is not set; the seed of their times is fixed.
TEST_F(Resume, AKilledRunGoesOnToTheBitsOfTheUnbrokenOne) {
  const char* const asked = std::getenv("CANDELA_KILLS");
  const int kills = asked != nullptr ? std::atoi(asked) : 6;
  const std::string model = CANDELA_SOURCE_DIR "/models/stories-7m";
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run(options("whole", model)).status, 0);
  const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::string expected = made("whole");
  std::mt19937 random(7);
  int killed = 0;
  int resumed = 0;
  int broken = 0;
  for (int run_number = 0; killed < kills; ++run_number) {
    ASSERT_LT(run_number, 20 * kills) << "the run ends before it can be killed";
    const std::string output = fmt::format("run-{}", run_number);
    bool done = false;
    while (!done) {
      // From before the first checkpoint to just behind the end.
      const double after = whole * std::uniform_real_distribution<double>(0.05, 1.1)(random);
      const bool goes_on = checkpoints(output) > 0;
      const std::string command = goes_on ? fmt::format("finetune --resume '{}'", path(output))
                                          : options(output, model) + " --overwrite";
      const std::string limit = killed < kills ? fmt::format("timeout -s KILL {:.3f}", after) : "";
      const Outcome outcome = run(command, limit);
      if (goes_on) ++resumed;
      done = outcome.status == 0;
      if (done) break;
      ASSERT_EQ(outcome.status, 128 + SIGKILL) << outcome.err;
      ++killed;
    }
    if (made(output) != expected) ++broken;
  }
  EXPECT_EQ(broken, 0);
  EXPECT_GT(resumed, 0);
  RecordProperty("kills", killed);
  RecordProperty("resumed", resumed);
}

class ResumeTiny : public Resume {
 protected:
  void SetUp() override {
    Resume::SetUp();
    model_ = write_tiny_model("model");
  }
  std::string model_;
};

TEST_F(ResumeTiny, FromAnyCheckpointAndAfterTheEnd) {
  ASSERT_EQ(run(options("whole", model_) + " --keep-checkpoints 9").status, 0);
  const std::string expected = made("whole");
  EXPECT_EQ(checkpoints("whole"), 5);
  for (const int step : {2, 6, 10}) {
    const Outcome outcome =
        run(fmt::format("finetune --resume '{}'", path(fmt::format("whole/checkpoint-{}", step))));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(outcome.says(fmt::format("resumed     after step {}", step))) << outcome.out;
    EXPECT_EQ(made("whole"), expected) << "from step " << step;
  }
}

/// The folder of the model is named in the run's options; what is in it may be another one by now.
TEST_F(ResumeTiny, OtherWeightsThanTheRunBeganWithAreRefused) {
  const std::string output = options("run", model_) + " --max-steps 3";
  ASSERT_EQ(run(output).status, 0);
  {
    const auto model = make_model(ModelConfig::load(model_), {}, 4);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const NamedTensor& parameter : model->named_parameters())
      tensors.emplace_back(parameter.name, parameter.tensor);
    write_safetensors(fs::path(model_) / "model.safetensors", tensors);
  }
  const Outcome refused = run(fmt::format("finetune --resume '{}'", path("run")));
  EXPECT_EQ(refused.status, 1) << refused.out;
  EXPECT_TRUE(refused.says("trainer_state.json: base must be that of the model's weights (")) << refused.err;
  EXPECT_TRUE(refused.says("the run began with other weights; give that model (--model)")) << refused.err;
  write_tiny_model("model");
  EXPECT_EQ(run(fmt::format("finetune --resume '{}'", path("run"))).status, 0);
}

TEST_F(ResumeTiny, ASignalLeavesACheckpointToGoOnFrom) {
  std::string long_run = options("stopped", model_);
  long_run.replace(long_run.find("--epochs 1"), 10, "--epochs 4000");
  long_run.replace(long_run.find("--save-every 2"), 14, "--save-every 100000");
  // Until the first steps are there, then asked to end.
  const Outcome stopped = run(long_run, "",
                              "& pid=$!; while ! [ -s '" + path("stopped/metrics.jsonl.partial") +
                                  "' ]; do sleep 0.02; done; kill -TERM $pid; wait $pid");
  EXPECT_EQ(stopped.status, 128 + SIGTERM) << stopped.err;
  EXPECT_TRUE(stopped.says("--resume")) << stopped.err;
  EXPECT_EQ(checkpoints("stopped"), 1);
}

TEST_F(ResumeTiny, OptionsThatWouldChangeTheRunAreRefused) {
  ASSERT_EQ(run(options("whole", model_)).status, 0);
  const Outcome rate = run(fmt::format("finetune --resume '{}' --learning-rate 1e-3", path("whole")));
  EXPECT_EQ(rate.status, 2);
  EXPECT_TRUE(rate.says("--learning-rate: must be 1e-2 as in ")) << rate.err;
  const Outcome none = run(fmt::format("finetune --resume '{}'", path("model")));
  EXPECT_EQ(none.status, 2);
  EXPECT_TRUE(none.says("holds no checkpoint")) << none.err;
  const Outcome config =
      run(fmt::format("finetune --resume '{}' --config '{}'", path("whole"), path("whole/finetune.yaml")));
  EXPECT_EQ(config.status, 2);
  // Other rows under the same name.
  write_rows("rows.jsonl", 41);
  const Outcome data = run(fmt::format("finetune --resume '{}'", path("whole")));
  EXPECT_EQ(data.status, 1);
  EXPECT_TRUE(data.says("the data are not those of the run")) << data.err;
}

TEST_F(ResumeTiny, VerifyComparesTheBitsOfEachStretch) {
  ASSERT_EQ(run(options("whole", model_)).status, 0);
  const Outcome good = run(fmt::format("verify '{}' --quiet", path("whole")));
  EXPECT_EQ(good.status, 0) << good.err;
  EXPECT_EQ(good.out, "step 6 to 8: the bits agree\nstep 8 to 10: the bits agree\n");
  // The last bit of one moment.
  const fs::path file = path("whole/checkpoint-8/optimizer.safetensors");
  std::string bytes = read(file);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  std::ofstream(file, std::ios::binary) << bytes;
  const Outcome bad = run(fmt::format("verify '{}' --quiet", path("whole")));
  EXPECT_EQ(bad.status, 1);
  EXPECT_TRUE(bad.says("step 6 to 8: differs, first in exp_avg")) << bad.out << bad.err;
  EXPECT_EQ(run(fmt::format("verify '{}'", path("model"))).status, 2);
}

/// Packs keep their order and their rows across a stop: the resumed run, and each replay, have the same bits.
TEST_F(ResumeTiny, APackedRunGoesOnAndIsVerified) {
  const std::string packed = options("whole", model_) + " --packing --pack-length 40";
  const Outcome outcome = run(packed);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.says("of 1 pack of 40 tokens x 2 passes")) << outcome.out;
  EXPECT_TRUE(outcome.says("0.0 % padding\n            without --packing: 10 of 2 rows x 2 passes, "))
      << outcome.out;
  const Outcome replayed = run(fmt::format("verify '{}' --quiet", path("whole")));
  EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
  const std::string expected = made("whole");
  const Outcome resumed = run(fmt::format("finetune --resume '{}'", path("whole/checkpoint-4")));
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(made("whole"), expected);
  const Outcome other = run(fmt::format("finetune --resume '{}' --pack-length 50", path("whole")));
  EXPECT_EQ(other.status, 2);
  EXPECT_TRUE(other.says("--pack-length: must be 40 as in")) << other.err;
}

TEST_F(ResumeTiny, TheBestIsKeptAndTakenInTheEnd) {
  // So low a rate that no validation is better than the first, though the adapter changes.
  std::string command = options("best", model_);
  command.replace(command.find("1e-2"), 4, "1e-30");
  const Outcome outcome = run(command + " --validate-first --keep-best --keep-checkpoints 1");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  int best_step = -1;
  double best = 1e30;
  std::ifstream in(path("best/metrics.jsonl"));
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line);
    if (!json.contains("validation_loss") || json["validation_loss"].get<double>() >= best) continue;
    best = json["validation_loss"].get<double>();
    best_step = json["step"].get<int>();
  }
  ASSERT_EQ(best_step, 0);
  EXPECT_TRUE(outcome.says(fmt::format("best        step {}", best_step))) << outcome.out;
  EXPECT_EQ(checkpoints("best"), 2);
  EXPECT_EQ(read(path("best/adapter_model.safetensors")),
            read(path(fmt::format("best/checkpoint-{}/adapter_model.safetensors", best_step))));
}

TEST_F(ResumeTiny, PatienceEndsTheRun) {
  std::string command = options("patient", model_);
  command.replace(command.find("1e-2"), 4, "1e-30");
  const Outcome outcome = run(command + " --validate-first --patience 2");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  std::ifstream in(path("patient/metrics.jsonl"));
  int lines = 0;
  for (std::string line; std::getline(in, line);) ++lines;
  EXPECT_EQ(lines, 7);  // before the first, and six steps: two validations
}

}  // namespace
}  // namespace candela
