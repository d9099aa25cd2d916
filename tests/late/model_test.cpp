#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <candela/core/grad.h>
#include <candela/generate/generate.h>
#include <candela/lora/lora.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/train/trainer.h>

#include "late/late_device.h"
#include "support/golden.h"
#include "support/tiny_models.h"
#include "train/pass_recorder.h"

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
    // The 16 inputs of a row are a bucket's own length: products have the same shapes, and bits, on both
    // devices.
    for (int t = 0; t < 17; ++t) {
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

/// Samples of several lengths, so that batches fall into several buckets.
std::vector<Sample> ragged_samples(int count) {
  std::vector<Sample> samples(static_cast<std::size_t>(count));
  Generator generator(13);
  for (Sample& sample : samples) {
    const auto length = static_cast<int>(6 + generator.next_below(30));
    for (int t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(50)));
      sample.trained.push_back(t > 2 ? 1 : 0);
    }
  }
  return samples;
}

struct Trained {
  std::vector<double> losses;
  std::vector<std::vector<float>> parameters;
  std::int64_t recorded = 0;
  /// reports that came while a later step was enqueued
  std::int64_t early_reports = 0;
};

TrainOptions ragged_options() {
  TrainOptions options;
  options.max_steps = 12;
  options.batch_size = 2;
  options.accumulation = 2;
  return options;
}

std::unique_ptr<Model> adapted_model(double dropout) {
  auto model = make_model(test::tiny_config("llama"), {DType::F32, late_device()}, 3);
  LoraConfig lora;
  lora.rank = 4;
  lora.dropout = dropout;
  Lora::attach(*model, lora, 5);
  return model;
}

/// `run` trains, with dropout and two passes a step.
template <class Run>
Trained train_ragged(const TrainOptions& options, const Run& run) {
  const auto model = adapted_model(0.25);
  const std::vector<Sample> samples = ragged_samples(16);
  Trainer trainer(*model, options);
  Trained result;
  run(trainer, samples, result);
  result.recorded = trainer.recorded();
  for (const Tensor& parameter : trainer.parameters())
    result.parameters.push_back(parameter.to_vector<float>());
  return result;
}

Trained train_recorded(std::int64_t settle_every) {
  TrainOptions options = ragged_options();
  options.settle_every = settle_every;
  return train_ragged(options, [](Trainer& trainer, const std::vector<Sample>& samples, Trained& result) {
    trainer.fit(samples, {}, [&](const StepReport& report) {
      if (test::late_pending() > 0) ++result.early_reports;
      result.losses.push_back(report.loss);
    });
  });
}

TEST(LateTraining, ARecordedRunHasTheBitsOfOneThatCallsItsOps) {
  const TrainOptions options = ragged_options();
  const Trained called = train_ragged(options, [&](Trainer& trainer, const std::vector<Sample>& samples,
                                                   Trained& result) {
    SampleSource source(samples, options);
    const ScheduleOptions schedule{options.schedule, options.adamw.lr, options.floor, 1, options.max_steps};
    for (std::int64_t step = 1; step <= options.max_steps; ++step) {
      std::vector<Batch> batches;
      for (const HostBatch& batch : source.next())
        batches.push_back(bucketed(batch, options.pad_id).upload(late_device()));
      result.losses.push_back(trainer.step(batches, learning_rate(schedule, step)).loss);
    }
  });
  const Trained recorded = train_recorded(1);
  EXPECT_EQ(called.recorded, 0);
  EXPECT_GT(recorded.recorded, 1) << "several buckets";
  EXPECT_LT(recorded.recorded, 2 * options.max_steps) << "passes that are replayed";
  EXPECT_EQ(recorded.losses, called.losses);
  EXPECT_EQ(recorded.parameters, called.parameters);
}

TEST(LateTraining, AStepIsEnqueuedBeforeTheLastOneIsRead) {
  const Trained settled = train_recorded(1);
  const Trained ahead = train_recorded(0);
  EXPECT_EQ(settled.early_reports, 0);
  EXPECT_EQ(ahead.early_reports, ragged_options().max_steps - 1);
  EXPECT_EQ(ahead.losses, settled.losses);
  EXPECT_EQ(ahead.parameters, settled.parameters);
}

/// The device decides that a step is not done; the host learns of it when the next one is enqueued.
TEST(LateTraining, AStepThatIsNotFiniteChangesNothingAlsoBehindTheHostsBack) {
  const auto model = adapted_model(0);
  const std::vector<Sample> samples = ragged_samples(2);
  Trainer trainer(*model, {});
  const std::size_t rows[] = {0, 1};
  const HostBatch batch = make_host_batch(samples, rows, 0);
  trainer.enqueue(std::span(&batch, 1), 1e-2);
  trainer.finish();
  std::vector<std::vector<float>> before;
  for (const Tensor& parameter : trainer.parameters()) before.push_back(parameter.to_vector<float>());
  // A norm weight of infinity makes this step's loss NaN; it is mended before the next one.
  const Tensor weight = model->named_parameters().back().tensor;
  const Tensor kept = clone(weight);
  fill_(weight, std::numeric_limits<double>::infinity());
  trainer.enqueue(std::span(&batch, 1), 1e-2);
  copy_(weight, kept);
  trainer.enqueue(std::span(&batch, 1), 0);
  EXPECT_EQ(trainer.in_flight(), 2U);
  const Trainer::StepOutcome skipped = trainer.finish();
  EXPECT_NE(skipped.skipped, "");
  const Trainer::StepOutcome after = trainer.finish();
  EXPECT_EQ(after.skipped, "");
  EXPECT_TRUE(std::isfinite(after.loss));
  EXPECT_EQ(trainer.state().step, 3);
  EXPECT_EQ(trainer.state().updates, 2);
  std::vector<std::vector<float>> now;
  for (const Tensor& parameter : trainer.parameters()) now.push_back(parameter.to_vector<float>());
  EXPECT_EQ(now, before);
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
