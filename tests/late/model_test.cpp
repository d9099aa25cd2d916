#include <gtest/gtest.h>

#include <candela/core/grad.h>
#include <candela/generate/generate.h>
#include <candela/lora/lora.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/train/trainer.h>

#include "late/late_device.h"
#include "support/golden.h"
#include "support/tiny_models.h"

namespace candela {
namespace {

using test::golden_folder;
using test::golden_values;
using test::late_counters;
using test::late_device;
using test::relative_error;
using test::values_of;

class LateGolden : public testing::TestWithParam<const char*> {
 protected:
  LateGolden()
      : folder_(golden_folder() / GetParam()),
        model_(load_model(folder_, {.dtype = DType::F32,
                                    .device = late_device(),
                                    .bf16_rope_frequencies = std::string(GetParam()) == "llama_bf16"})),
        expected_(SafetensorsReader::open(folder_ / "expected.safetensors")) {}

  std::filesystem::path folder_;
  std::unique_ptr<Model> model_;
  SafetensorsReader expected_;
};

TEST_P(LateGolden, LogitsAgreeAfterOneWait) {
  const NoGrad guard;
  const auto before = late_counters();
  const Tensor ids = to_device(expected_.tensor("input_ids"), late_device());
  const Tensor logits = model_->logits(model_->forward_hidden(ids));
  EXPECT_EQ(late_counters().waits, before.waits) << "from the upload to the last op";
  EXPECT_LE(relative_error(values_of(logits), golden_values(expected_, "logits")), 1e-4);
  EXPECT_EQ(late_counters().waits, before.waits + 1);
}

TEST_P(LateGolden, GreedyIdsAgreeAtOneWaitAToken) {
  std::vector<TokenId> all;
  for (const std::int64_t id : expected_.tensor("greedy").to_vector<std::int64_t>())
    all.push_back(static_cast<TokenId>(id));
  constexpr std::ptrdiff_t kPrompt = 9;
  const std::vector<TokenId> prompt(all.begin(), all.begin() + kPrompt);
  GenerateOptions options;
  options.max_tokens = static_cast<std::int64_t>(all.size()) - kPrompt;
  options.stop_at_eos = false;
  TextGenerator generator(*model_);
  const auto before = late_counters();
  const Generation result = generator.generate(prompt, options);
  EXPECT_EQ(result.ids(), std::vector<TokenId>(all.begin() + kPrompt, all.end()));
  EXPECT_LE(late_counters().waits - before.waits, result.ids().size());
}

INSTANTIATE_TEST_SUITE_P(Transformers, LateGolden,
                         testing::Values("llama", "llama_bf16", "mistral_sharded", "qwen2_tied", "qwen3"),
                         [](const auto& given) { return std::string(given.param); });

/// A tiny model with adapters, trained for `steps` steps: the losses.
std::vector<double> train(Device device, std::int64_t steps) {
  auto model = make_model(test::tiny_config("llama"), {DType::F32, device}, 3);
  LoraConfig lora;
  lora.rank = 4;
  lora.alpha = 8;
  Lora::attach(*model, lora, 5);
  TrainOptions options;
  options.max_steps = steps;
  options.batch_size = 2;
  std::vector<Sample> samples(8);
  Generator generator(11);
  for (Sample& sample : samples) {
    for (int t = 0; t < 12; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(50)));
      sample.trained.push_back(1);
    }
  }
  std::vector<double> losses;
  Trainer trainer(*model, options);
  trainer.fit(samples, {}, [&](const StepReport& report) { losses.push_back(report.loss); });
  return losses;
}

TEST(LateTraining, LossesAreThoseOfTheCpuAtOneWaitAStep) {
  constexpr std::int64_t kSteps = 6;
  const auto before = late_counters();
  const std::vector<double> losses = train(late_device(), kSteps);
  const std::uint64_t six = late_counters().waits - before.waits;
  EXPECT_EQ(losses, train(Device::cpu(), kSteps));
  const auto middle = late_counters();
  train(late_device(), 2 * kSteps);
  const std::uint64_t twelve = late_counters().waits - middle.waits;
  EXPECT_LE(twelve - six, static_cast<std::uint64_t>(kSteps)) << "waits of further steps";
}

/// What is saved from such a device is what it held.
TEST(LateFiles, AnAdapterIsSavedAndLoadedAgain) {
  const std::filesystem::path base = golden_folder() / "llama";
  const auto model = load_model(base, {.dtype = DType::F32, .device = late_device()});
  LoraConfig config;
  config.rank = 4;
  Lora lora = Lora::attach(*model, config, 5);
  const std::filesystem::path folder = test::scratch_folder("late_adapter");
  lora.save(folder, base.string());
  const auto again = load_model(base, {.dtype = DType::F32});
  const Lora loaded = Lora::load(*again, folder);
  const std::vector<NamedTensor> expected = lora.parameters();
  const std::vector<NamedTensor> got = loaded.parameters();
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(values_of(got[i].tensor), values_of(expected[i].tensor));
}

}  // namespace
}  // namespace candela
