#include "cli/cli.h"
#include "hub/fake_hub.h"

/// Data in several files and forms, and models and data from a Hub.
namespace candela::test {
namespace {

class DataCommands : public Cli {
 protected:
  /// `data check` of what `data` names.
  Outcome check(const std::string& data, const std::string& model) const {
    return run(fmt::format("data check --model '{}' --data {}", model, data));
  }
};

TEST_F(DataCommands, CheckCountsTheFilesAndShowsARow) {
  const std::string model = write_tiny_model("model");
  write_rows("a.jsonl", 8);
  write("b.csv", "prompt,completion\nWhat?,That.\nWho?,She.\n");
  const Outcome result = check(fmt::format("'{}' --data '{}:0.5'", path("a.jsonl"), path("b.csv")), model);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("a.jsonl and 1 more file: 9 rows as prompt/completion")) << result.out;
  EXPECT_TRUE(result.says("a.jsonl: 8 rows\n")) << result.out;
  EXPECT_TRUE(result.says("b.csv: 1 rows at weight 0.5\n")) << result.out;
  EXPECT_TRUE(result.says("rows by length:")) << result.out;
  EXPECT_TRUE(result.says("padding ")) << result.out;
  EXPECT_TRUE(result.says("a.jsonl:1, trained in ⟦ ⟧:")) << result.out;
}

TEST_F(DataCommands, CheckTellsOfGoodRowsBeforeItRefusesTheOthers) {
  const std::string model = write_tiny_model("model");
  write("a.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n\n{\"prompt\": \"a\"}\nno\n");
  const Outcome result = check(fmt::format("'{}'", path("a.jsonl")), model);
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("1 rows as prompt/completion")) << result.out;
  EXPECT_TRUE(result.says("2 rows cannot be trained on:")) << result.err;
  EXPECT_TRUE(result.says("a.jsonl:3: completion must be a string")) << result.err;
  EXPECT_TRUE(result.says("a.jsonl:4: must be valid JSON")) << result.err;
}

TEST_F(DataCommands, CheckFailsWhereTruncationLeavesNothingToTrainOn) {
  const std::string model = write_tiny_model("model");
  write("a.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a long text that says a lot of things\", "
        "\"completion\": \"b\"}\n");
  const std::string cut = fmt::format("data check --model '{}' --data '{}' --raw --max-length 6 --truncate",
                                      model, path("a.jsonl"));
  Outcome result = run(cut);
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("1 row would train on nothing: --max-length cuts off the answer")) << result.err;
  result = run(cut + " --skip-untrained");
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST_F(DataCommands, FinetuneTakesSeveralFilesAndGoesOnFromItsConfig) {
  const std::string model = write_tiny_model("model");
  write_rows("a.jsonl", 8);
  write("b.json", "[{\"prompt\": \"x\", \"completion\": \"y\"}]");
  const Outcome result = run(fmt::format(
      "finetune --model '{}' --data '{}' --data '{}:2' --output '{}' --max-steps 1 --batch-size 4 --quiet",
      model, path("a.jsonl"), path("b.json"), path("run")));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("a.jsonl and 1 more file: 10 rows")) << result.out;
  const Outcome again =
      run(fmt::format("finetune --config '{}' --output '{}'", path("run/finetune.yaml"), path("two")));
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read(path("run/adapter_model.safetensors")), read(path("two/adapter_model.safetensors")));
}

TEST_F(DataCommands, PullFetchesWhatTheOthersTakeByName) {
  const std::string folder = write_tiny_model("model");
  std::map<std::string, HubFile> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = {read(entry.path()),
                                               entry.path().extension() == ".safetensors"};
  const Server server([&](const Received& request) { return hub_answer(request, files, "org/tiny"); });
  const std::string at =
      fmt::format("no_proxy=127.0.0.1 HF_ENDPOINT={} HF_HOME='{}'", server.url(), path("hf"));
  const std::string missing = "info org/tiny";
  EXPECT_TRUE(run(missing, at).says("`candela pull org/tiny`"));
  const Outcome pulled = run("pull org/tiny", at);
  if (pulled.says("this build has no libcurl")) GTEST_SKIP() << pulled.err;
  EXPECT_EQ(pulled.status, 0) << pulled.err;
  EXPECT_EQ(pulled.out, path("hf/hub/models--org--tiny/snapshots/") + kCommit + "\n");
  EXPECT_EQ(run("info org/tiny", at).status, 0);
  write_rows("a.jsonl", 8);
  const Outcome trained = run(
      fmt::format("finetune --model org/tiny --data '{}' --output '{}' --max-steps 1 --batch-size 4 --quiet",
                  path("a.jsonl"), path("run")),
      at);
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(read_json("run/adapter_config.json").at("base_model_name_or_path"), "org/tiny");
  const Outcome text =
      run(fmt::format("generate --model org/tiny --adapter '{}' --prompt a --max-tokens 2", path("run")), at);
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_EQ(run("pull ../x", at).status, 2);
  EXPECT_EQ(run("pull org/none", at).status, 1);
}

}  // namespace
}  // namespace candela::test
