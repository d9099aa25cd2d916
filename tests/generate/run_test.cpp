#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/generate/run.h>
#include <candela/models/model.h>

#include "support/errors.h"

namespace candela {
namespace {

std::unique_ptr<Model> tiny_model() {
  const ModelConfig config = ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 0.3})",
      "tiny");
  return make_model(config, {DType::F32, Device::cpu()}, 3);
}

GenerateOptions drawn(std::int64_t tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = 0.8;
  options.seed = 5;
  return options;
}

/// Requests that come while others run get the tokens that they get alone.
TEST(GenerationRun, RequestsMayComeAtAnyStep) {
  const auto model = tiny_model();
  TextGenerator alone(*model);
  const std::vector<std::vector<TokenId>> prompts = {{1, 2, 3}, {4, 5, 6, 7, 8, 9}, {10}, {11, 12}};
  const std::vector<std::int64_t> lengths = {12, 3, 9, 1};
  GenerationRun run(*model);
  std::vector<Generation> results(prompts.size());
  std::size_t added = 0;
  const auto add = [&] {
    ASSERT_EQ(run.add({prompts[added], drawn(lengths[added])}), added);
    ++added;
  };
  add();
  add();
  for (int step = 0; run.step(); ++step) {
    for (auto& [number, generation] : run.finished()) results[number] = std::move(generation);
    if (step == 4 || step == 6) add();
  }
  ASSERT_EQ(added, prompts.size());
  EXPECT_EQ(run.running(), 0U);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(results[i].ids(), alone.generate(prompts[i], drawn(lengths[i])).ids()) << "request " << i;
    EXPECT_EQ(results[i].finish, FinishReason::Length);
  }
  EXPECT_FALSE(run.step());
}

TEST(GenerationRun, ACancelledRequestEndsWithWhatItHas) {
  const auto model = tiny_model();
  GenerationRun run(*model);
  const std::vector<TokenId> prompt = {1, 2, 3};
  const std::size_t going = run.add({prompt, drawn(40)});
  const std::size_t waiting = run.add({prompt, drawn(40)});
  run.cancel(waiting);
  EXPECT_EQ(run.running(), 1U);
  for (int step = 0; step < 3; ++step) run.step();
  run.cancel(going);
  EXPECT_FALSE(run.step());
  const auto results = run.finished();
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].first, waiting);
  EXPECT_TRUE(results[0].second.tokens.empty());
  EXPECT_EQ(results[1].first, going);
  EXPECT_EQ(results[1].second.tokens.size(), 3U);
  EXPECT_EQ(results[1].second.finish, FinishReason::Cancelled);
  EXPECT_TRUE(run.finished().empty());
}

TEST(GenerationRun, RequestsThatCannotRunAreRefused) {
  const auto model = tiny_model();
  GenerationRun run(*model);
  EXPECT_THROW(run.add({{}, drawn(1)}), InvalidArgument);
  EXPECT_THROW(run.add({{96}, drawn(1)}), InvalidArgument);
  EXPECT_THROW(run.add({{1}, drawn(0)}), InvalidArgument);
  EXPECT_FALSE(run.step());
}

}  // namespace
}  // namespace candela
