#include <cmath>
#include <cstring>

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

class CliFinetuneEmbedder : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    model_ = write_tiny_model("model");
    std::string pairs;
    std::string scored;
    for (int i = 0; i < 24; ++i) {
      pairs +=
          fmt::format(R"({{"anchor": "The cat number {}", "positive": "cat {} says meow"}})", i, i) + "\n";
      scored += fmt::format("{}\tThe dog {}\tA cow {}\n", i % 6, i, i % 4);
    }
    write("pairs.jsonl", pairs);
    write("scored.tsv", scored);
  }
  std::string train(const std::string& data, const std::string& more) const {
    return fmt::format(
        "finetune-embedder --model '{}' --data '{}' --rank 4 --batch-size 8 --max-steps 6 --learning-rate "
        "1e-2 "
        "--quiet {}",
        model_, path(data), more);
  }
  std::string model_;
};

TEST_F(CliFinetuneEmbedder, TrainsSavesAndResumesToTheSameBits) {
  const Outcome whole =
      run(train("pairs.jsonl", fmt::format("--output '{}' --save-every 3 --dropout 0.1", path("whole"))));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_TRUE(whole.says("loss        ranking, scale 20")) << whole.out;
  std::istringstream lines(read(path("whole/metrics.jsonl")));
  std::vector<double> losses;
  for (std::string line; std::getline(lines, line);)
    losses.push_back(nlohmann::json::parse(line)["loss"].get<double>());
  ASSERT_EQ(losses.size(), 6U);
  EXPECT_LT(losses.back(), losses.front());
  const std::string trained = read(path("whole/adapter_model.safetensors"));
  const Outcome again =
      run(fmt::format("finetune-embedder --resume '{}' --quiet", path("whole/checkpoint-3")));
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read(path("whole/adapter_model.safetensors")), trained);
}

TEST_F(CliFinetuneEmbedder, GradientCachingAndValidationAreToldInThePlan) {
  const Outcome plan =
      run(train("pairs.jsonl", fmt::format("--output '{}' --batch-tokens 32 --valid '{}' --plan",
                                           path("none"), path("pairs.jsonl"))));
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_TRUE(plan.says("with gradient caching in up to")) << plan.out;
  EXPECT_TRUE(plan.says("validation")) << plan.out;
  EXPECT_FALSE(exists("none"));
}

TEST_F(CliFinetuneEmbedder, AnAdapterChangesEmbeddingsAndMergesIntoThem) {
  write("model/modules.json",
        R"([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])");
  write("model/1_Pooling/config.json", R"({"pooling_mode_lasttoken": true})");
  write("texts.txt", "the cat\nsat on a mat\n");
  ASSERT_EQ(run(train("scored.tsv", fmt::format("--output '{}'", path("adapter")))).status, 0);
  const auto embedded = [&](const std::string& options) {
    const Outcome outcome = run(
        fmt::format("embed {} --format npy --output '{}' '{}'", options, path("e.npy"), path("texts.txt")));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const std::string bytes = read(path("e.npy"));
    std::vector<float> values((bytes.size() - 128) / sizeof(float));
    std::memcpy(values.data(), bytes.data() + 128, values.size() * sizeof(float));
    return values;
  };
  const std::vector<float> base = embedded(fmt::format("--model '{}'", model_));
  const std::vector<float> adapted =
      embedded(fmt::format("--model '{}' --adapter '{}'", model_, path("adapter")));
  EXPECT_NE(base, adapted);
  const Outcome merge = run(fmt::format("merge --model '{}' --adapter '{}' --output '{}'", model_,
                                        path("adapter"), path("merged")));
  ASSERT_EQ(merge.status, 0) << merge.err;
  EXPECT_TRUE(exists("merged/1_Pooling/config.json"));
  const std::vector<float> merged = embedded(fmt::format("--model '{}'", path("merged")));
  ASSERT_EQ(merged.size(), adapted.size());
  for (std::size_t i = 0; i < merged.size(); ++i) EXPECT_NEAR(merged[i], adapted[i], 1e-4);
}

TEST_F(CliFinetuneEmbedder, SaysWhatDoesNotFit) {
  const auto refused = [&](const std::string& data, const std::string& more, const std::string& text) {
    const Outcome outcome = run(train(data, fmt::format("--output '{}' {}", path("out_folder"), more)));
    EXPECT_NE(outcome.status, 0);
    EXPECT_TRUE(outcome.says(text)) << outcome.err;
    EXPECT_FALSE(exists("out_folder"));
  };
  refused("scored.tsv", "--loss ranking", "takes each pair as alike, and");
  refused("pairs.jsonl", "--loss cosent", "needs 2 texts and a score per row");
  refused("scored.tsv", "--loss cosine", "scores must be in [-1, 1]");
  refused("pairs.jsonl", "--validate-every 2", "there is nothing to validate on");
  refused("pairs.jsonl", "--prompt-name query", "no prompt is named query; the model has none");
  write_rows("rows.jsonl");
  refused("rows.jsonl", "", "name them with --fields");
  const Outcome named = run(
      train("rows.jsonl", fmt::format("--fields prompt --fields completion --output '{}'", path("named"))));
  EXPECT_EQ(named.status, 0) << named.err;
}

TEST_F(CliFinetuneEmbedder, StsIsJudgedByCorrelations) {
  const Outcome sts =
      run(fmt::format("eval --model '{}' --sts '{}' --max-score 5 --json", model_, path("scored.tsv")));
  ASSERT_EQ(sts.status, 0) << sts.err;
  const auto json = nlohmann::json::parse(sts.out);
  EXPECT_EQ(json["pairs"], 24);
  EXPECT_LE(std::abs(json["spearman"].get<double>()), 1);
  EXPECT_LE(std::abs(json["pearson"].get<double>()), 1);
  const Outcome both = run(fmt::format("eval --model '{}' --sts '{}' --data x", model_, path("scored.tsv")));
  EXPECT_TRUE(both.says("--data or --sts: exactly one of them is required")) << both.err;
  const Outcome idle =
      run(fmt::format("eval --model '{}' --sts '{}' --max-tokens 3", model_, path("scored.tsv")));
  EXPECT_TRUE(idle.says("--max-tokens: has no effect with --sts; leave it out")) << idle.err;
  const Outcome unscored = run(fmt::format("eval --model '{}' --sts '{}'", model_, path("pairs.jsonl")));
  EXPECT_TRUE(unscored.says("must hold at least 2 pairs of texts with scores")) << unscored.err;
}

}  // namespace
}  // namespace candela
