#include "support/golden.h"

#include <gtest/gtest.h>

#include <candela/lora/lora.h>
#include <candela/ops/elementwise.h>
#include <candela/train/trainer.h>

namespace candela {
namespace {

using test::golden_folder;
using test::golden_values;
using test::relative_error;
using test::values_of;

/// What peft and torch.optim.AdamW did in 20 steps, done by the Trainer.
class GoldenTrainer : public testing::TestWithParam<test::GoldenCase> {
 protected:
  GoldenTrainer()
      : folder_(golden_folder() / GetParam().model),
        model_(load_model(folder_)),
        lora_(Lora::load(*model_, folder_ / GetParam().adapter / "start", true)),
        expected_(SafetensorsReader::open(folder_ / GetParam().adapter / "expected.safetensors")) {
    const SafetensorsReader batch = SafetensorsReader::open(folder_ / "expected.safetensors");
    const auto ids = batch.tensor("input_ids").to_vector<std::int64_t>();
    const auto labels = batch.tensor("labels").to_vector<std::int64_t>();
    const auto rows = static_cast<std::size_t>(batch.tensor("input_ids").size(0));
    const std::size_t length = ids.size() / rows;
    for (std::size_t row = 0; row < rows; ++row) {
      Sample sample;
      for (std::size_t t = 0; t < length; ++t) {
        sample.ids.push_back(static_cast<TokenId>(ids[row * length + t]));
        sample.trained.push_back(labels[row * length + t] >= 0 ? 1 : 0);
      }
      samples_.push_back(sample);
    }
  }

  /// As tests/golden/README.md says: one batch of all rows, a constant rate, clipped at norm 1.
  static TrainOptions options() {
    TrainOptions options;
    options.batch_size = 2;
    options.max_steps = 20;
    options.schedule = Schedule::Constant;
    options.warmup = 0;
    options.adamw = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01};
    options.clip_norm = 1;
    return options;
  }

  std::filesystem::path folder_;
  std::unique_ptr<Model> model_;
  Lora lora_;
  SafetensorsReader expected_;
  std::vector<Sample> samples_;
};

TEST_P(GoldenTrainer, LossesAndGradientNormsOfTwentySteps) {
  const std::vector<double> losses = golden_values(expected_, "losses");
  const std::vector<double> norms = golden_values(expected_, "grad_norms");
  std::size_t steps = 0;
  Trainer(*model_, options()).fit(samples_, {}, [&](const StepReport& report) {
    ASSERT_LT(steps, losses.size());
    EXPECT_LE(std::abs(report.loss - losses[steps]), 1e-4 * losses[steps]) << "step " << report.step;
    EXPECT_LE(std::abs(report.grad_norm - norms[steps]), 1e-4 * norms[steps]) << "step " << report.step;
    ++steps;
  });
  EXPECT_EQ(steps, losses.size());
  const SafetensorsReader end =
      SafetensorsReader::open(folder_ / GetParam().adapter / "end" / "adapter_model.safetensors");
  for (const NamedTensor& parameter : lora_.parameters()) {
    EXPECT_LE(relative_error(values_of(parameter.tensor), golden_values(end, parameter.name)), 1e-3)
        << parameter.name;
  }
}

/// clip_grad_norm_ scales by min(1, 1 / (norm + 1e-6)).
TEST_P(GoldenTrainer, ClippedGradientsOfTheFirstStep) {
  Trainer trainer(*model_, options());
  const std::vector<std::size_t> rows = {0, 1};
  const Batch batch = make_batch(samples_, rows, 0, Device::cpu());
  const Trainer::StepOutcome first = trainer.step(std::span(&batch, 1), 1e-3);
  EXPECT_LE(std::abs(first.loss - golden_values(expected_, "losses")[0]), 1e-4 * first.loss);
  const double clip = std::min(1.0, 1.0 / (first.norm + 1e-6));
  for (const NamedTensor& parameter : lora_.parameters()) {
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    std::string key = parameter.name;
    key = "grad_clipped." + key.insert(key.size() - std::string(".weight").size(), ".default");
    EXPECT_LE(
        relative_error(values_of(affine(parameter.tensor.grad(), clip, 0)), golden_values(expected_, key)),
        1e-4)
        << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, GoldenTrainer, testing::ValuesIn(test::kGoldenAdapters),
                         [](const auto& param_info) { return param_info.param.name(); });

}  // namespace
}  // namespace candela
