#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/wait.h>

#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>

namespace candela {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  int status = -1;
  std::string out;  // standard output
  std::string err;  // standard error
};

/// A folder of its own for each test, gone afterwards.
class Cli : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("candela_cli_{}_{}", ::getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }

  static std::string read(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  /// Runs `candela ARGUMENTS` in a shell; `before` stands in front of it, `after` behind.
  Outcome run(const std::string& arguments, const std::string& before = "",
              const std::string& after = "") const {
    const std::string line = fmt::format("{} '{}' {} {} >'{}' 2>'{}'", before, CANDELA_BINARY, arguments,
                                         after, path("out"), path("err"));
    const int code = std::system(line.c_str());
    return {WIFEXITED(code) ? WEXITSTATUS(code) : -1, read(folder_ / "out"), read(folder_ / "err")};
  }

  /// A few short rows, prompt and completion.
  void write_rows(const std::string& name, int count = 24) const {
    std::string text;
    for (int i = 0; i < count; ++i) {
      text +=
          fmt::format("{{\"prompt\": \"The cat number {} says\", \"completion\": \" meow {}\"}}\n", i, i % 5);
    }
    write(name, text);
  }

  std::string finetune(const std::string& more) const {
    return fmt::format("finetune --model '{}' --data '{}' --rank 4 --batch-size 4 --max-steps 6 --quiet {}",
                       kModel, path("rows.jsonl"), more);
  }

  static constexpr const char* kModel = CANDELA_SOURCE_DIR "/models/stories-7m";
  fs::path folder_;
};

TEST_F(Cli, UsageErrorsEndWithTwoAndFailuresWithOne) {
  EXPECT_EQ(run("").status, 2);
  EXPECT_EQ(run("train").status, 2);
  EXPECT_EQ(run("generate --prompt x").status, 2);
  EXPECT_EQ(run("generate --model x --prompt x --top-k many").status, 2);
  const Outcome missing = run("generate --model /nowhere --prompt x");
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.err.find("/nowhere/config.json"), std::string::npos) << missing.err;
  EXPECT_EQ(missing.out, "");
}

TEST_F(Cli, EveryCommandExplainsItselfWithAnExample) {
  for (const char* command : {"finetune", "generate", "eval", "merge", "info", "tokenize", "logits", "bench",
                              "bench ops", "bench train", "bench decode", "bench products", "devices"}) {
    const Outcome help = run(fmt::format("{} --help", command));
    EXPECT_EQ(help.status, 0) << command;
    EXPECT_NE(help.out.find("Example:"), std::string::npos) << command;
  }
}

TEST_F(Cli, TokenizePrintsAJsonArray) {
  const Outcome ids =
      run(fmt::format("tokenize --tokenizer '{}/tokenizer.json'", kModel), "printf 'Once upon a time' |");
  ASSERT_EQ(ids.status, 0) << ids.err;
  EXPECT_EQ(nlohmann::json::parse(ids.out), nlohmann::json({587, 509, 262, 446}));
}

TEST_F(Cli, GeneratePrintsOnlyTheContinuationAndRepeats) {
  const std::string command =
      fmt::format("generate --model '{}' --prompt 'Once upon a time' --max-tokens 12", kModel);
  const Outcome first = run(command);
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out.substr(0, 18), ", there was a litt");
  EXPECT_EQ(first.err, "");
  const std::string drawn = command + " --temperature 0.9 --seed 4";
  EXPECT_EQ(run(drawn).out, run(drawn).out);
  EXPECT_NE(run(drawn).out, first.out);
}

TEST_F(Cli, LogitsWritesWhatTheModelSays) {
  const Tensor ids = Tensor::from_values<std::int32_t>({587, 509, 262, 446, 10, 20}, {1, 6});
  write_safetensors(path("ids.safetensors"), {{"input_ids", ids}, {"labels", ids}});
  const Outcome result = run(fmt::format("logits --model '{}' --input '{}' --output '{}'", kModel,
                                         path("ids.safetensors"), path("logits.safetensors")));
  ASSERT_EQ(result.status, 0) << result.err;
  const SafetensorsReader out = SafetensorsReader::open(path("logits.safetensors"));
  EXPECT_EQ(out.tensor("logits").shape(), (Shape{1, 6, 4096}));
  EXPECT_EQ(out.tensor("logits").dtype(), DType::F32);
  EXPECT_GT(out.tensor("loss").item(), 0.0);
}

TEST_F(Cli, FinetuneEvalMergeAndGenerateFitTogether) {
  write_rows("rows.jsonl");
  const Outcome trained = run(finetune(fmt::format("--output '{}'", path("adapter"))));
  ASSERT_EQ(trained.status, 0) << trained.err;
  for (const char* file :
       {"adapter_model.safetensors", "adapter_config.json", "loss.svg", "metrics.jsonl", "finetune.yaml"}) {
    EXPECT_TRUE(fs::exists(folder_ / "adapter" / file)) << file;
  }
  const Outcome evaluated = run(fmt::format("eval --model '{}' --adapter '{}' --data '{}' --json", kModel,
                                            path("adapter"), path("rows.jsonl")));
  ASSERT_EQ(evaluated.status, 0) << evaluated.err;
  const auto json = nlohmann::json::parse(evaluated.out);
  EXPECT_EQ(json["rows"], 24);
  EXPECT_EQ(json["questions"], 24);
  EXPECT_TRUE(json.contains("exact_match"));
  ASSERT_EQ(run(fmt::format("merge --model '{}' --adapter '{}' --dtype f32 --output '{}'", kModel,
                            path("adapter"), path("merged")))
                .status,
            0);
  const std::string prompt = "--dtype f32 --prompt 'The cat number 3 says' --max-tokens 8";
  const Outcome with_adapter =
      run(fmt::format("generate --model '{}' --adapter '{}' {}", kModel, path("adapter"), prompt));
  const Outcome merged = run(fmt::format("generate --model '{}' {}", path("merged"), prompt));
  EXPECT_EQ(merged.status, 0) << merged.err;
  EXPECT_EQ(merged.out, with_adapter.out);
}

TEST_F(Cli, TheSavedConfigurationRepeatsTheRun) {
  write_rows("rows.jsonl");
  ASSERT_EQ(run(finetune(fmt::format("--learning-rate 1e-3 --target-modules q_proj v_proj --output '{}'",
                                     path("one"))))
                .status,
            0);
  const Outcome again =
      run(fmt::format("finetune --config '{}' --output '{}'", path("one/finetune.yaml"), path("two")));
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read(folder_ / "one/adapter_model.safetensors"), read(folder_ / "two/adapter_model.safetensors"));
}

TEST_F(Cli, AConfigurationWithAnUnknownKeyNamesFileLineAndKey) {
  write("bad.yaml", "model: x\nlearning_rate: 1\n");
  const Outcome result = run(fmt::format("finetune --config '{}'", path("bad.yaml")));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("bad.yaml:2: learning_rate: is no option of `candela finetune`"),
            std::string::npos)
      << result.err;
}

TEST_F(Cli, AnEarlierAdapterIsNotOverwrittenUnlessAsked) {
  write_rows("rows.jsonl");
  const std::string command = finetune(fmt::format("--output '{}'", path("adapter")));
  ASSERT_EQ(run(command).status, 0);
  const Outcome second = run(command);
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.err.find("--overwrite"), std::string::npos) << second.err;
  EXPECT_EQ(run(command + " --overwrite").status, 0);
}

TEST_F(Cli, BadRowsAreNamedByFileAndLine) {
  write("rows.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\nnot json\n");
  const Outcome result = run(finetune(fmt::format("--output '{}'", path("adapter"))));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("rows.jsonl:2"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(path("adapter")));
}

TEST_F(Cli, AnAdapterOfAnotherModelIsRefusedByName) {
  write_rows("rows.jsonl");
  ASSERT_EQ(run(finetune(fmt::format("--output '{}'", path("adapter")))).status, 0);
  const SafetensorsReader whole = SafetensorsReader::open(path("adapter/adapter_model.safetensors"));
  std::vector<std::pair<std::string, Tensor>> kept;
  for (const std::string& name : whole.names()) kept.emplace_back(name, clone(whole.tensor(name)));
  const std::string dropped = kept.back().first;
  kept.pop_back();
  write_safetensors(path("adapter/adapter_model.safetensors"), kept);
  const Outcome result =
      run(fmt::format("generate --model '{}' --adapter '{}' --prompt x", kModel, path("adapter")));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find(dropped), std::string::npos) << result.err;
}

/// A limit on the size of files stands for a disk that fills: the write fails half-way.
TEST_F(Cli, ADiskThatFillsLeavesNoHalfWrittenModel) {
  write_rows("rows.jsonl");
  ASSERT_EQ(run(finetune(fmt::format("--output '{}'", path("adapter")))).status, 0);
  const Outcome result = run(
      fmt::format("merge --model '{}' --adapter '{}' --output '{}'", kModel, path("adapter"), path("merged")),
      "trap '' XFSZ; ulimit -f 2048;");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("model.safetensors"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(path("merged/model.safetensors")));
  for (const auto& entry : fs::directory_iterator(path("merged"))) {
    EXPECT_LT(entry.file_size(), 300000U) << entry.path() << " is left over";
  }
}

TEST_F(Cli, DivergenceEndsWithAClearErrorAndSavesNothing) {
  write_rows("rows.jsonl");
  const Outcome result = run(finetune(fmt::format(
      "--learning-rate 1e30 --clip-norm 0 --warmup 0 --max-steps 20 --output '{}'", path("adapter"))));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("lower the learning rate"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(path("adapter/adapter_model.safetensors")));
}

TEST_F(Cli, ThePlanIsPrintedWithoutTrainingWhenAsked) {
  write_rows("rows.jsonl");
  const Outcome result = run(finetune(fmt::format("--plan --output '{}'", path("adapter"))));
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* word : {"trainable parameters", "tokens", "memory", "steps"}) {
    EXPECT_NE(result.out.find(word), std::string::npos) << word;
  }
  EXPECT_FALSE(fs::exists(path("adapter")));
}

}  // namespace
}  // namespace candela
