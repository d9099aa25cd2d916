#include <limits>

#include <candela/ops/copy.h>

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

class Eval : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl", 6);
    model_ = write_tiny_model("model");
  }
  Outcome eval(const std::string& more) const {
    return run(fmt::format("eval --model '{}' --data '{}' {}", model_, path("rows.jsonl"), more));
  }
  /// Overwrites one weight of the model with NaN.
  void spoil(const std::string& weight) const {
    const SafetensorsReader reader = SafetensorsReader::open(model_);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const std::string& name : reader.names()) {
      tensors.emplace_back(name, clone(reader.tensor(name)));
      if (name == weight) fill_(tensors.back().second, std::numeric_limits<double>::quiet_NaN());
    }
    write_safetensors(model_ + "/model.safetensors", tensors);
  }
  std::string model_;
};

TEST_F(Eval, WeightsThatAreNotNumbersAreAnErrorThatNamesThem) {
  spoil("model.layers.1.mlp.up_proj.weight");
  for (const char* more : {"--json --max-tokens 3", "--json --no-answers", ""}) {
    const Outcome result = eval(more);
    EXPECT_EQ(result.status, 1) << more;
    EXPECT_TRUE(result.says("model.layers.1.mlp.up_proj.weight")) << result.err;
    EXPECT_EQ(result.out, "") << more;
  }
  const Outcome tuned = run(finetune(fmt::format("--output '{}'", path("adapter")), model_));
  EXPECT_EQ(tuned.status, 1);
  EXPECT_TRUE(tuned.says("model.layers.1.mlp.up_proj.weight")) << tuned.err;
}

/// What is cut to a line's width is cut between characters.
TEST_F(Eval, ShownAnswersAreValidUtf8) {
  std::string long_text;
  for (int i = 0; i < 150; ++i) long_text += "é";
  write("rows.jsonl", "{\"prompt\": \"Say\", \"completion\": \" " + long_text + "\"}\n");
  const Outcome result = eval("--show 1 --max-tokens 120 --max-length 1000");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NO_THROW(static_cast<void>(nlohmann::json(result.out).dump()));  // throws for what is not UTF-8
}

/// The prompts count in the loss; the answers are the same ones.
TEST_F(Eval, ALossOnPromptsLeavesTheQuestionsAsTheyAre) {
  const auto result = [&](const std::string& more) {
    const Outcome outcome = eval("--json --max-tokens 3 " + more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const nlohmann::json answers = result("");
  const nlohmann::json all = result("--train-on-prompt");
  EXPECT_EQ(answers["questions"], 6);
  ASSERT_TRUE(all.contains("exact_match")) << all;
  EXPECT_EQ(all["questions"], answers["questions"]);
  EXPECT_EQ(all["exact"], answers["exact"]);
  EXPECT_GT(all["trained_tokens"], answers["trained_tokens"]);
}

TEST_F(Eval, RowsBeyondTheContextNameTheOptionsThatHelp) {
  write("rows.jsonl", "{\"prompt\": \"" + std::string(4000, 'x') + "\", \"completion\": \" y\"}\n");
  const Outcome result = eval("--no-answers");
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("rows.jsonl:1")) << result.err;
  EXPECT_TRUE(result.says("--max-length")) << result.err;
  EXPECT_TRUE(result.says("--truncate")) << result.err;
}

}  // namespace
}  // namespace candela
