#include <algorithm>
#include <csignal>
#include <limits>
#include <thread>

#include <candela/ops/copy.h>

#include "cli/cli.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

/// What a checkpoint holds.
const std::vector<std::string> kCheckpoint = {"adapter_config.json", "adapter_model.safetensors",
                                              "finetune.yaml", "optimizer.safetensors", "trainer_state.json"};

/// What happens to a training run in its course.
class Run : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl");
    model_ = write_tiny_model("model");
  }
  Outcome tune(const std::string& more, const std::string& before = "", const std::string& after = "") const {
    return run(finetune(fmt::format("--output '{}' {}", path("adapter"), more), model_), before, after);
  }
  std::vector<std::string> listing(const std::string& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path(folder)))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  std::size_t lines(const std::string& file) const {
    const std::string text = read(path(file));
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  /// Runs a long training in the background, sends `signal` once it has made some steps, and waits.
  Outcome interrupted(const char* signal, const std::string& more = "") const {
    std::thread sender([&] {
      const std::string metrics = "adapter/metrics.jsonl.partial";  // as long as it runs
      for (int i = 0; i < 2000 && (!exists(metrics) || lines(metrics) < 3); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      const std::string kill = fmt::format("kill -{} $(cat '{}')", signal, path("pid"));
      EXPECT_EQ(std::system(kill.c_str()), 0);
    });
    const Outcome result =
        tune("--max-steps 1000000 " + more, fmt::format("echo $$ >'{}'; exec", path("pid")));
    sender.join();
    return result;
  }
  std::string model_;
};

TEST_F(Run, ASignalEndsTheRunAndSavesTheAdapter) {
  for (const auto& [signal, status] :
       {std::pair("INT", 130), std::pair("TERM", 143), std::pair("HUP", 129)}) {
    fs::remove_all(path("adapter"));
    const Outcome result = interrupted(signal);
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_TRUE(result.says(fmt::format("stopped by SIG{} after step", signal))) << result.err;
    EXPECT_TRUE(result.says("the adapter is saved")) << result.err;
    std::vector<std::string> files = listing("adapter");
    EXPECT_EQ(std::erase_if(files, [](const auto& name) { return name.starts_with("checkpoint-"); }), 1U)
        << "to go on from";
    EXPECT_EQ(files,
              (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors",
                                        "candela_chat.json", "finetune.yaml", "loss.svg", "metrics.jsonl"}));
    EXPECT_GE(lines("adapter/metrics.jsonl"), 3U);
    const Outcome used = run(fmt::format("generate --model '{}' --adapter '{}' --prompt x --max-tokens 2",
                                         model_, path("adapter")));
    EXPECT_EQ(used.status, 0) << used.err;
  }
}

TEST_F(Run, CheckpointsAreWholeAdaptersAndTheLastOnesStay) {
  const Outcome result = tune("--max-steps 11 --save-every 2 --keep-checkpoints 2");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(listing("adapter"),
            (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors", "candela_chat.json",
                                      "checkpoint-10", "checkpoint-8", "finetune.yaml", "loss.svg",
                                      "metrics.jsonl"}));
  EXPECT_EQ(listing("adapter/checkpoint-8"), kCheckpoint);
  const Outcome used = run(fmt::format("generate --model '{}' --adapter '{}' --prompt x --max-tokens 2",
                                       model_, path("adapter/checkpoint-8")));
  EXPECT_EQ(used.status, 0) << used.err;
  EXPECT_NE(read(path("adapter/checkpoint-8/adapter_model.safetensors")),
            read(path("adapter/checkpoint-10/adapter_model.safetensors")));
  // Those of an earlier run go with it.
  fs::remove(path("adapter/adapter_model.safetensors"));
  const Outcome refused = tune("--max-steps 3");
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("holds checkpoints of an earlier run")) << refused.err;
  ASSERT_EQ(tune("--max-steps 3 --save-every 3 --overwrite").status, 0);
  EXPECT_TRUE(exists("adapter/checkpoint-3"));
  EXPECT_FALSE(exists("adapter/checkpoint-8"));
  ASSERT_EQ(tune("--max-steps 3 --overwrite").status, 0);
  EXPECT_FALSE(exists("adapter/checkpoint-3"));
}

/// A person's folder beside them is not a run's, whatever it is called.
TEST_F(Run, OnlyFoldersThatARunMakesAreItsCheckpoints) {
  const std::vector<std::string> own = {"checkpoint-best", "checkpoint-4-copy", "checkpoint-", "checkpoint"};
  for (const std::string& name : own) write("adapter/" + name + "/adapter_config.json", "mine");
  ASSERT_EQ(tune("--max-steps 2").status, 0) << "they do not make it another run's output";
  fs::create_directories(path("adapter/.checkpoint-9"));  // of a killed run
  fs::create_directories(path("adapter/checkpoint-7"));
  ASSERT_EQ(tune("--max-steps 2 --overwrite").status, 0);
  EXPECT_FALSE(exists("adapter/checkpoint-7"));
  EXPECT_FALSE(exists("adapter/.checkpoint-9"));
  for (const std::string& name : own)
    EXPECT_EQ(read(path("adapter/" + name + "/adapter_config.json")), "mine");
}

/// A killed run leaves its last checkpoint, and nothing that looks like one and is not.
TEST_F(Run, AKilledRunLeavesItsCheckpoint) {
  const Outcome result = interrupted("KILL", "--save-every 1");
  EXPECT_EQ(result.status, 128 + SIGKILL);
  EXPECT_FALSE(exists("adapter/adapter_model.safetensors"));
  std::size_t checkpoints = 0;
  for (const std::string& name : listing("adapter")) {
    if (name.rfind("checkpoint-", 0) != 0) continue;
    ++checkpoints;
    EXPECT_EQ(listing("adapter/" + name), kCheckpoint);
  }
  EXPECT_GE(checkpoints, 1U);
  ASSERT_EQ(tune("--overwrite").status, 0);
  EXPECT_EQ(listing("adapter"),
            (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors", "candela_chat.json",
                                      "finetune.yaml", "loss.svg", "metrics.jsonl"}));
}

/// A run may be killed at any time: so a checkpoint is whole for as long as it is there, the old ones that go
/// included. Those here cannot be removed to the end: what is left of them must not have their names.
TEST_F(Run, CheckpointsGoWhole) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may remove everything";
  const std::vector<std::string> old = {"checkpoint-2", "checkpoint-8", "checkpoint-9"};
  ASSERT_EQ(tune("--max-steps 2 --save-every 2").status, 0);
  for (const std::string& name : {old[1], old[2]})
    fs::copy(path("adapter/checkpoint-2"), path("adapter/" + name), fs::copy_options::recursive);
  const std::string before = read(path("adapter/checkpoint-2/adapter_model.safetensors"));
  for (const std::string& name : old) {
    write("adapter/" + name + "/locked/file", name);
    fs::permissions(path("adapter/" + name + "/locked"), fs::perms::owner_read | fs::perms::owner_exec);
  }
  const Outcome result = tune("--max-steps 2 --save-every 1 --overwrite --seed 9");
  std::vector<std::string> left;
  for (const auto& entry : fs::recursive_directory_iterator(path("adapter"))) {
    if (entry.path().filename() != "locked") continue;
    fs::permissions(entry.path(), fs::perms::owner_all);  // for those that clean up after this test
    left.push_back(read(entry.path() / "file"));
    EXPECT_EQ(entry.path().parent_path().filename().string().rfind(".checkpoint-", 0), 0U) << entry.path();
    EXPECT_TRUE(result.says(fmt::format("{}: could not be removed: ", entry.path().parent_path().string())))
        << result.err;
  }
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, old);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(listing("adapter/checkpoint-1"), kCheckpoint);
  EXPECT_EQ(listing("adapter/checkpoint-2"), kCheckpoint);
  EXPECT_NE(read(path("adapter/checkpoint-2/adapter_model.safetensors")), before);
  ASSERT_EQ(tune("--max-steps 1 --overwrite").status, 0);
  EXPECT_EQ(listing("adapter"),
            (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors", "candela_chat.json",
                                      "finetune.yaml", "loss.svg", "metrics.jsonl"}));
}

TEST_F(Run, AnAdapterCanBeTrainedFurther) {
  ASSERT_EQ(tune("--target-modules q_proj --alpha 12").status, 0);
  const std::string further =
      fmt::format("finetune --model '{}' --data '{}' --batch-size 4 --max-steps 4 --quiet --adapter '{}'",
                  model_, path("rows.jsonl"), path("adapter"));
  const Outcome result = run(fmt::format("{} --output '{}'", further, path("more")));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("rank 4, alpha 12")) << result.out;
  EXPECT_TRUE(result.says("continued from")) << result.out;
  const auto config = read_json("more/adapter_config.json");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 12);
  EXPECT_EQ(config["target_modules"], nlohmann::json({"q_proj"}));
  EXPECT_NE(read(path("more/adapter_model.safetensors")), read(path("adapter/adapter_model.safetensors")));
  // Its first loss is where the first run ended, below where that began.
  const auto first_loss = [&](const std::string& file) {
    std::ifstream in(path(file));
    std::string line;
    std::getline(in, line);
    return nlohmann::json::parse(line)["loss"].get<double>();
  };
  const Outcome trained = tune("--overwrite --max-steps 60 --learning-rate 2e-2");
  ASSERT_EQ(trained.status, 0) << trained.err;
  ASSERT_EQ(run(fmt::format("{} --output '{}' --overwrite", further, path("more"))).status, 0);
  EXPECT_LT(first_loss("more/metrics.jsonl"), first_loss("adapter/metrics.jsonl") - 0.5);
  // The saved options repeat the continued run.
  const Outcome again =
      run(fmt::format("finetune --config '{}' --output '{}'", path("more/finetune.yaml"), path("again")));
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read(path("again/adapter_model.safetensors")), read(path("more/adapter_model.safetensors")));
  // In place.
  EXPECT_EQ(run(fmt::format("{} --output '{}' --overwrite", further, path("adapter"))).status, 0);
}

/// A limit on the size of files stands for a disk that fills while the metrics grow.
TEST_F(Run, MetricsThatCannotBeWrittenCostAWarningNotTheRun) {
  const Outcome result = tune("--max-steps 40 --rank 1 --target-modules q_proj", "ulimit -f 8;");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(
      result.says("metrics.jsonl.partial: could not be written: File too large; the run goes on without it"))
      << result.err;
  EXPECT_TRUE(exists("adapter/adapter_model.safetensors"));
  std::ifstream in(path("adapter/metrics.jsonl"));
  std::size_t count = 0;
  for (std::string line; std::getline(in, line); ++count) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  EXPECT_GT(count, 5U);
  EXPECT_LT(count, 40U);
  EXPECT_EQ(read(path("adapter/metrics.jsonl")).back(), '\n');
}

/// The rows are read, the plan is printed, and then the disk is full: an error, not a signal.
TEST_F(Run, AnAdapterThatCannotBeWrittenIsAnErrorAndLeavesNothingHalf) {
  const Outcome result = tune("--rank 64 --max-steps 2", "ulimit -f 16;");
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_TRUE(result.says("adapter_model.safetensors: could not be written: File too large; free some space"))
      << result.err;
  EXPECT_TRUE(result.says("the steps of the run are in")) << result.err;
  EXPECT_EQ(listing("adapter"), std::vector<std::string>{"metrics.jsonl.partial"});
}

/// Another run's metrics beside an adapter would be taken for its own.
TEST_F(Run, ARunThatFailsLeavesTheEarlierOnesFiles) {
  ASSERT_EQ(tune("").status, 0);
  const std::vector<std::string> files = listing("adapter");
  std::vector<std::string> before;
  for (const std::string& file : files) before.push_back(read(path("adapter/" + file)));
  EXPECT_EQ(tune("--overwrite --max-steps 20 --learning-rate 1e30 --clip-norm 0 --warmup 0").status, 1);
  EXPECT_EQ(tune("--overwrite --rank 64", "ulimit -f 16;").status, 1);
  for (std::size_t i = 0; i < files.size(); ++i)
    EXPECT_EQ(read(path("adapter/" + files[i])), before[i]) << files[i];
  ASSERT_EQ(tune("--overwrite --max-steps 2").status, 0);
  EXPECT_EQ(listing("adapter"), files) << "what the failed runs left is gone";
  EXPECT_EQ(lines("adapter/metrics.jsonl"), 2U);
}

TEST_F(Run, ARunThatFailsBeforeItsFirstStepLeavesNoFolder) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  {
    const SafetensorsReader reader = SafetensorsReader::open(model_);
    for (const std::string& name : reader.names()) tensors.emplace_back(name, clone(reader.tensor(name)));
  }
  fill_(tensors.front().second, std::numeric_limits<double>::quiet_NaN());
  write_safetensors(model_ + "/model.safetensors", tensors);
  const Outcome result = run(finetune(fmt::format("--output '{}'", path("deep/adapter")), model_));
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_FALSE(exists("deep"));
  fs::create_directories(path("adapter"));
  EXPECT_EQ(tune("").status, 1);
  EXPECT_EQ(listing("adapter"), std::vector<std::string>{}) << "a folder that was there stays";
}

TEST_F(Run, OutputsThatCannotBeAreFoundFirst) {
  write("file", "x");
  fs::create_directories(path("used"));
  write("used/adapter_model.safetensors", "x");
  for (const std::string& output :
       {path("file"), path("file/inside"), path("used"), std::string("/proc/x"), model_}) {
    // The data is missing too: the output is looked at before it.
    const Outcome result =
        run(fmt::format("finetune --model '{}' --data /nowhere --output '{}'", model_, output));
    EXPECT_EQ(result.status, 1) << output;
    EXPECT_TRUE(result.says("--output")) << output << result.err;
    EXPECT_EQ(result.out, "") << output;
  }
}

/// eval of a training's own validation rows gives the loss that training printed, whatever dtype the model is
/// stored in.
TEST_F(Run, EvalAfterTrainingEqualsItsValidation) {
  write_rows("valid.jsonl", 5);
  const std::string stored_in_bf16 = kModel;
  const Outcome trained =
      run(finetune(fmt::format("--output '{}' --valid '{}' --max-steps 3 --train-on-prompt", path("adapter"),
                               path("valid.jsonl")),
                   stored_in_bf16));
  ASSERT_EQ(trained.status, 0) << trained.err;
  const std::string metrics = read(path("adapter/metrics.jsonl"));
  const std::size_t last = metrics.rfind('\n', metrics.size() - 2);
  const double validation = nlohmann::json::parse(metrics.substr(last + 1))["validation_loss"].get<double>();
  const Outcome evaluated =
      run(fmt::format("eval --model '{}' --adapter '{}' --data '{}' --json --no-answers --train-on-prompt",
                      stored_in_bf16, path("adapter"), path("valid.jsonl")));
  ASSERT_EQ(evaluated.status, 0) << evaluated.err;
  EXPECT_NEAR(nlohmann::json::parse(evaluated.out)["loss"].get<double>(), validation, 1e-6 * validation);
}

TEST_F(Run, RowsCanBeHeldOutToValidateOn) {
  const Outcome result =
      tune("--valid-split 0.25 --validate-every 3 --batch-size 1 --max-steps 0 --epochs 1");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("6 rows held out")) << result.out;
  EXPECT_EQ(lines("adapter/metrics.jsonl"), 18U);
  EXPECT_NE(read(path("adapter/metrics.jsonl")).find("validation_loss"), std::string::npos);
}

TEST_F(Run, ALimitBeyondTheContextIsReported) {
  const Outcome result = tune("--max-length 500 --max-steps 1");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("--max-length 500 is beyond the model's context of 128 tokens")) << result.err;
}

}  // namespace
}  // namespace candela
