// Whole models on the GPU: what transformers and peft computed, training, generation, and that no op of them
// leaves the device.
#include "support/golden.h"

#include <candela/core/grad.h>
#include <candela/generate/generate.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/train/memory_plan.h>
#include <candela/train/trainer.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

using test::golden_folder;
using test::golden_values;
using test::values_of;

class Golden : public MetalTest, public testing::WithParamInterface<const char*> {};

TEST_P(Golden, LogitsAndLossAgreeAndNothingRunsOnTheHost) {
  const NoGrad guard;
  const std::string name = GetParam();
  const auto model =
      load_model(golden_folder() / name,
                 {.dtype = DType::F32, .device = metal(), .bf16_rope_frequencies = name == "llama_bf16"});
  const SafetensorsReader expected = SafetensorsReader::open(golden_folder() / name / "expected.safetensors");
  const Tensor ids = to_device(expected.tensor("input_ids"), metal());
  const Tensor targets = shift_labels(expected.tensor("labels"));
  std::int64_t trained = 0;
  for (const std::int64_t target : targets.to_vector<std::int64_t>())
    trained += target != kIgnoreIndex ? 1 : 0;
  const Tensor targets_there = to_device(targets, metal());
  const Since since;
  const Tensor hidden = model->forward_hidden(ids);
  const Tensor loss = model->loss(hidden, targets_there);
  const Tensor logits = model->logits(hidden);
  EXPECT_EQ(since.now().host_runs, 0U);
  EXPECT_LE(test::relative_error(values_of(logits), golden_values(expected, "logits")), 1e-4);
  const double mean = loss.item() / static_cast<double>(trained);
  EXPECT_LE(std::abs(mean - golden_values(expected, "loss")[0]), 1e-5 * std::max(1.0, mean));
}

INSTANTIATE_TEST_SUITE_P(Transformers, Golden,
                         testing::Values("gemma3_text", "llama", "llama_bf16", "mistral_sharded", "phi3",
                                         "qwen2_tied", "qwen3", "smollm3"),
                         [](const auto& param_info) { return std::string(param_info.param); });

/// What peft and torch.optim.AdamW did in 20 steps: tests/golden/README.md.
class GoldenAdapter : public MetalTest, public testing::WithParamInterface<test::GoldenCase> {};

TEST_P(GoldenAdapter, LossesOfTwentySteps) {
  const std::filesystem::path folder = golden_folder() / GetParam().model;
  const auto model = load_model(folder, {.dtype = DType::F32, .device = metal()});
  const Lora lora = Lora::load(*model, folder / GetParam().adapter / "start", true);
  const SafetensorsReader expected =
      SafetensorsReader::open(folder / GetParam().adapter / "expected.safetensors");
  const SafetensorsReader batch = SafetensorsReader::open(folder / "expected.safetensors");
  const auto ids = batch.tensor("input_ids").to_vector<std::int64_t>();
  const auto labels = batch.tensor("labels").to_vector<std::int64_t>();
  std::vector<Sample> samples(static_cast<std::size_t>(batch.tensor("input_ids").size(0)));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Sample& sample = samples[i / (ids.size() / samples.size())];
    sample.ids.push_back(static_cast<TokenId>(ids[i]));
    sample.trained.push_back(labels[i] >= 0 ? 1 : 0);
  }
  TrainOptions options;
  options.batch_size = 2;
  options.max_steps = 20;
  options.schedule = Schedule::Constant;
  options.warmup = 0;
  options.adamw = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01};
  options.clip_norm = 1;
  const std::vector<double> losses = golden_values(expected, "losses");
  const std::vector<double> norms = golden_values(expected, "grad_norms");
  std::size_t steps = 0;
  const Since since;
  Trainer(*model, options).fit(samples, {}, [&](const StepReport& report) {
    ASSERT_LT(steps, losses.size());
    EXPECT_LE(std::abs(report.loss - losses[steps]), 1e-4 * losses[steps]) << "step " << report.step;
    EXPECT_LE(std::abs(report.grad_norm - norms[steps]), 1e-4 * norms[steps]) << "step " << report.step;
    ++steps;
  });
  EXPECT_EQ(steps, losses.size());
  EXPECT_EQ(since.now().host_runs, 0U);
}

INSTANTIATE_TEST_SUITE_P(Peft, GoldenAdapter, testing::ValuesIn(test::kGoldenAdapters),
                         [](const auto& param_info) { return param_info.param.name(); });

class BundledModel : public MetalTest {
 protected:
  static std::filesystem::path folder() { return CANDELA_SOURCE_DIR "/models/stories-7m"; }
  static std::vector<Sample> rows(std::size_t count, std::size_t length) {
    std::vector<Sample> samples(count);
    for (std::size_t row = 0; row < count; ++row) {
      for (std::size_t t = 0; t < length; ++t) {
        samples[row].ids.push_back(static_cast<TokenId>((row * 977 + t * 131) % 4096));
        samples[row].trained.push_back(t > 0 ? 1 : 0);
      }
    }
    return samples;
  }
};

/// In the model's own bf16, with dropout: one wait, where the loss and the gradient's norm are read.
TEST_F(BundledModel, ATrainingStepStaysOnTheDeviceAndWaitsOnce) {
  const auto model = load_model(folder(), {.device = metal()});
  const Lora lora = Lora::attach(*model, {.rank = 4, .dropout = 0.1});
  TrainOptions options;
  options.batch_size = 2;
  options.max_steps = 4;
  Trainer trainer(*model, options);
  const std::vector<Sample> samples = rows(2, 12);
  const std::vector<std::size_t> both = {0, 1};
  const Batch batch = make_batch(samples, both, 0, metal());
  trainer.step(std::span(&batch, 1), 1e-3);
  const Since since;
  const Trainer::StepOutcome outcome = trainer.step(std::span(&batch, 1), 1e-3);
  EXPECT_TRUE(std::isfinite(outcome.loss));
  const metal::Counters counts = since.now();
  EXPECT_EQ(counts.host_runs, 0U);
  EXPECT_EQ(counts.waits, 1U);
  EXPECT_EQ(counts.stalls, 0U);
  EXPECT_EQ(counts.contiguous_copies, 0U) << "every kernel follows strides";
}

/// Workspaces are stated, so the plan of the device counts what a step on it takes.
TEST_F(BundledModel, ThePeakOfAStepIsWhatThePlanSays) {
  const std::vector<Sample> samples = rows(2, 40);
  TrainOptions options;
  options.batch_size = 2;
  options.max_steps = 1;
  std::unique_ptr<Model> planned;
  const SampleSource source(samples, options);
  const auto prepare = [&](Device device) {
    auto model = load_model(folder(), {.dtype = DType::F32, .device = device});
    Lora::attach(*model, {.rank = 4, .dropout = 0.1}, 5);
    return model;
  };
  const MemoryPlan plan = plan_memory([&]() -> Model& { return *(planned = prepare(Device::plan(metal()))); },
                                      options, source, nullptr, metal());
  Allocator& allocator = device_interface(metal()).allocator();
  device_interface(metal()).synchronize();
  allocator.trim();
  const std::size_t before = allocator.stats().reserved;
  allocator.reset_peaks();
  const auto model = prepare(metal());
  Trainer trainer(*model, options);
  const std::vector<std::size_t> both = {0, 1};
  const Batch batch = make_batch(samples, both, 0, metal());
  trainer.step(std::span(&batch, 1), 1e-3);
  const auto real = static_cast<double>(allocator.stats().peak_reserved - before);
  EXPECT_NEAR(static_cast<double>(plan.needed()), real, 0.1 * real);
}

TEST_F(BundledModel, GreedyTokensAreThoseOfTheCpu) {
  GenerateOptions options;
  options.max_tokens = 6;
  options.sampling.temperature = 0;
  const std::vector<TokenId> prompt = {1, 300, 45, 1021};
  const auto ids_on = [&](Device device) {
    const auto model = load_model(folder(), {.dtype = DType::F32, .device = device});
    return TextGenerator(*model).generate(prompt, options).ids();
  };
  const Since since;
  const std::vector<TokenId> there = ids_on(metal());
  EXPECT_EQ(since.now().host_runs, 0U);
  EXPECT_EQ(there, ids_on(Device::cpu()));
}

}  // namespace
}  // namespace candela::metal_tests
