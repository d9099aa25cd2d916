#include <gtest/gtest.h>

#include <candela/lora/lora.h>
#include <candela/train/memory_plan.h>
#include <candela/train/trainer.h>

#include "support/thread_count.h"

namespace candela {
namespace {

LoraConfig tiny_lora() {
  LoraConfig config;
  config.rank = 4;
  config.alpha = 8;
  return config;
}

/// A model small enough to train many steps, large enough that activations are most of its memory.
std::unique_ptr<Model> make_small_model(Device device, const LoraConfig& lora, DType dtype) {
  const ModelConfig config = ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 0.1})",
      "small");
  auto model = make_model(config, {dtype, device}, 3);
  Lora::attach(*model, lora, 5);
  return model;
}

std::unique_ptr<Model> small_model(Device device) {
  return make_small_model(device, tiny_lora(), DType::F32);
}

/// Rows of `shortest` to `longest` tokens; the first third of each is a prompt.
std::vector<Sample> rows(std::size_t count, std::uint64_t shortest = 6, std::uint64_t longest = 25) {
  Generator generator(11);
  std::vector<Sample> samples(count);
  for (Sample& sample : samples) {
    const std::uint64_t length = shortest + generator.next_below(longest - shortest + 1);
    for (std::uint64_t t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(96)));
      sample.trained.push_back(t >= length / 3 + 1 ? 1 : 0);
    }
  }
  return samples;
}

MemoryPlan plan_of(const TrainOptions& options, std::span<const Sample> samples,
                   std::span<const Sample> valid,
                   const std::function<std::unique_ptr<Model>(Device)>& prepare) {
  const SampleSource source(samples, options);
  const ValidationSource validation(valid, options.batch_size, options.pad_id);
  std::unique_ptr<Model> model;
  const auto planned = [&]() -> Model& { return *(model = prepare(Device::plan())); };
  return plan_memory(planned, options, source, valid.empty() ? nullptr : &validation);
}

/// The plan of a whole run beside what the allocator took for it.
struct PlannedRun {
  double planned = 0, real = 0;
};

PlannedRun planned_run(const TrainOptions& options, std::span<const Sample> samples,
                       std::span<const Sample> valid,
                       const std::function<std::unique_ptr<Model>(Device)>& prepare = small_model) {
  const MemoryPlan plan = plan_of(options, samples, valid, prepare);
  Allocator& cpu = device_interface(Device::cpu()).allocator();
  cpu.trim();
  const std::size_t before = cpu.stats().reserved;
  cpu.reset_peaks();
  const auto model = prepare(Device::cpu());
  Trainer(*model, options).fit(samples, valid, [](const StepReport&) {});
  return {static_cast<double>(plan.needed()), static_cast<double>(cpu.stats().peak_reserved - before)};
}

TEST(MemoryPlan, PredictsThePeakOfTheAllocator) {
  const std::vector<Sample> samples = rows(8);
  const std::vector<std::size_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto prepare = [](Device device) {
    auto model = load_model(CANDELA_SOURCE_DIR "/models/stories-7m", {DType::F32, device});
    Lora::attach(*model, tiny_lora(), 5);
    return model;
  };
  const MemoryPlan plan = plan_of({}, samples, {}, prepare);
  Allocator& cpu = device_interface(Device::cpu()).allocator();
  cpu.trim();
  const std::size_t before = cpu.stats().reserved;
  cpu.reset_peaks();
  const auto model = prepare(Device::cpu());
  Trainer trainer(*model, {});
  const Batch batch = make_batch(samples, all, 0, Device::cpu());
  trainer.step(std::span(&batch, 1), 1e-3);
  const auto real = static_cast<double>(cpu.stats().peak_reserved - before);
  EXPECT_NEAR(static_cast<double>(plan.needed()), real, 0.1 * real);
}

/// Weights that stay in the mapped file are counted beside what the allocator takes, adapters included.
TEST(MemoryPlan, CountsMappedWeightsAndAdaptersBoth) {
  const std::vector<Sample> samples = rows(8);
  LoraConfig wide = tiny_lora();
  wide.rank = 32;
  const auto load = [](Device device) {
    return load_model(CANDELA_SOURCE_DIR "/models/stories-7m", {std::nullopt, device});
  };
  const auto prepare = [&](Device device) {
    auto model = load(device);
    Lora::attach(*model, wide, 5);
    return model;
  };
  const MemoryPlan plan = plan_of({}, samples, {}, prepare);
  Allocator& cpu = device_interface(Device::cpu()).allocator();
  cpu.trim();
  std::size_t mapped = plan.weights;
  {
    const std::size_t before = cpu.stats().allocated;
    const auto model = load(Device::cpu());
    mapped -= cpu.stats().allocated - before;
  }
  ASSERT_GT(mapped, plan.weights / 2) << "the file has the dtype that it is used in";
  cpu.trim();
  const std::size_t before = cpu.stats().reserved;
  cpu.reset_peaks();
  const auto model = prepare(Device::cpu());
  Trainer(*model, {}).fit(samples, {}, [](const StepReport&) {});
  const auto real = static_cast<double>(cpu.stats().peak_reserved - before + mapped);
  EXPECT_NEAR(static_cast<double>(plan.needed()), real, 0.04 * real);
}

TEST(MemoryPlan, WhatDoesNotFitNamesTheLargestPartAndTheRemedy) {
  MemoryPlan plan;
  plan.weights = 100U << 20U;
  plan.activations = 900U << 20U;
  plan.available = 500U << 20U;
  try {
    check_fits(plan);
    FAIL() << "no error";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("activations with 900 MiB: use a smaller --batch-size"),
              std::string::npos)
        << error.what();
  }
  plan.available = 2000U << 20U;
  EXPECT_NO_THROW(check_fits(plan));
}

TEST(MemoryPlan, HoldsForARunOverMixedLengths) {
  const std::vector<Sample> samples = rows(160, 10, 120);
  for (const std::int64_t batch_size : {1, 8}) {
    TrainOptions options;
    options.batch_size = batch_size;
    options.epochs = 2;
    const PlannedRun run = planned_run(options, samples, {});
    EXPECT_NEAR(run.planned, run.real, 0.1 * run.real) << "rows of a batch: " << batch_size;
  }
}

TEST(MemoryPlan, HoldsForAPackedRun) {
  const std::vector<Sample> samples = rows(160, 10, 120);
  for (const std::int64_t accumulation : {1, 2}) {
    TrainOptions options;
    options.batch_size = 2;
    options.accumulation = accumulation;
    options.pack_length = 256;
    options.epochs = 2;
    const PlannedRun run = planned_run(options, samples, rows(16, 10, 120));
    EXPECT_NEAR(run.planned, run.real, 0.1 * run.real) << "batches of a step: " << accumulation;
  }
}

TEST(MemoryPlan, CoversAValidationOfLongerRowsThanItTrainsOn) {
  TrainOptions options;
  options.max_steps = 2;
  const PlannedRun run = planned_run(options, rows(16), rows(16, 300, 400));
  EXPECT_NEAR(run.planned, run.real, 0.1 * run.real);
}

/// The gradients of a step's first batch are there while the second runs.
TEST(MemoryPlan, CoversTheGradientsThatAccumulate) {
  const auto prepare = [](Device device) {
    LoraConfig config = tiny_lora();
    config.rank = 256;
    return make_small_model(device, config, DType::F32);
  };
  TrainOptions options;
  options.batch_size = 1;
  options.max_steps = 2;
  for (const std::int64_t accumulation : {1, 2, 3}) {
    options.accumulation = accumulation;
    const PlannedRun run = planned_run(options, rows(12, 90, 110), {}, prepare);
    EXPECT_NEAR(run.planned, run.real, 0.1 * run.real) << "batches of a step: " << accumulation;
  }
}

/// At long rows, the sums of attention's pieces and what products pack are a good part of the whole.
TEST(MemoryPlan, CoversWhatKernelsTakeWhileTheyRun) {
  // With many threads, some find nothing left to do, and take no memory.
  const test::ThreadCount two(2);
  TrainOptions options;
  options.batch_size = 1;
  options.max_steps = 2;
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const PlannedRun run = planned_run(options, rows(4, 480, 510), {}, [&](Device device) {
      return make_small_model(device, tiny_lora(), dtype);
    });
    EXPECT_NEAR(run.planned, run.real, 0.1 * run.real) << to_string(dtype);
  }
}

TEST(MemoryPlan, IsThatOfTheBatchesARunMeets) {
  const std::vector<Sample> samples = rows(160, 10, 120);
  TrainOptions options;
  options.batch_size = 1;
  options.max_steps = 1;
  const HostBatch met = SampleSource(samples, options).planned().front();
  ASSERT_LT(met.length, 100) << "a run that meets one of the longest rows shows nothing";
  std::vector<Sample> one;
  for (const Sample& sample : samples) {
    if (one.empty() && static_cast<std::int64_t>(sample.ids.size()) == met.length + 1) one.push_back(sample);
  }
  const auto all = static_cast<double>(plan_of(options, samples, {}, small_model).needed());
  const auto single = static_cast<double>(plan_of(options, one, {}, small_model).needed());
  EXPECT_NEAR(all, single, 0.1 * single);
}

}  // namespace
}  // namespace candela
