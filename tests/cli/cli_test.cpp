#include "cli/cli.h"

#include <candela/ops/copy.h>

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

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
  for (const char* command : {"finetune",
                              "verify",
                              "generate",
                              "chat",
                              "eval",
                              "merge",
                              "info",
                              "tokenize",
                              "render",
                              "data check",
                              "doctor",
                              "logits",
                              "embed",
                              "search",
                              "bench",
                              "bench ops",
                              "bench train",
                              "bench decode",
                              "bench products",
                              "bench table",
                              "bench tokenize",
                              "devices",
                              "finetune-embedder",
                              "bench embed"}) {
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

TEST_F(Cli, InfoTellsWhatAnAdapterIs) {
  write_rows("rows.jsonl");
  const std::string model = write_tiny_model("model");
  ASSERT_EQ(run(finetune(fmt::format("--alpha 12 --rslora --target-modules q_proj v_proj --output '{}'",
                                     path("adapter")),
                         model))
                .status,
            0);
  const Outcome result = run(fmt::format("info '{}'", path("adapter")));
  ASSERT_EQ(result.status, 0) << result.err;
  for (const std::string& text :
       {std::string("rank 4, alpha 12, scale 6 (rsLoRA"), std::string("q_proj, v_proj"),
        "base model      " + fs::canonical(model).string(), std::string("8 with")}) {
    EXPECT_TRUE(result.says(text)) << text << ": " << result.out;
  }
}

/// Sizes whose product is beyond any number, and nothing.
TEST_F(Cli, InfoCountsElementsWithoutOverflow) {
  const auto file = [&](const std::string& header, const std::string& data) {
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 0xFF);
    write("x.safetensors", length + header + data);
    return run(fmt::format("info '{}'", path("x.safetensors")));
  };
  const Outcome empty = file(
      R"({"a": {"dtype": "F32", "shape": [4611686018427387904, 4611686018427387904, 0], "data_offsets": [0, 0]}})",
      "");
  EXPECT_EQ(empty.status, 0) << empty.err;
  EXPECT_TRUE(empty.says("1 with 0 elements")) << empty.out;
  const Outcome large = file(
      R"({"a": {"dtype": "X9", "shape": [4611686018427387904, 4611686018427387904], "data_offsets": [0, 1]}})",
      "x");
  EXPECT_EQ(large.status, 0) << large.err;
  EXPECT_TRUE(large.says("more than 2^63 elements")) << large.out;
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

}  // namespace
}  // namespace candela
