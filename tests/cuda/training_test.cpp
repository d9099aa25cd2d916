#include <gtest/gtest.h>
#include <vector>

#include <candela/autograd/backward.h>
#include <candela/lora/lora.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/random.h>
#include <candela/train/trainer.h>

#include "cuda/gpu.h"
#include "support/golden.h"
#include "support/tiny_models.h"
#include "train/pass_recorder.h"

namespace candela {
namespace {

using test::Gpu;
using test::kCuda;

/// Samples of several lengths, so that batches fall into several buckets.
std::vector<Sample> ragged_samples(int count) {
  std::vector<Sample> samples(static_cast<std::size_t>(count));
  Generator generator(13);
  for (Sample& sample : samples) {
    const auto length = static_cast<int>(6 + generator.next_below(60));
    for (int t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(50)));
      sample.trained.push_back(t > 2 ? 1 : 0);
    }
  }
  return samples;
}

TrainOptions ragged_options(std::int64_t steps) {
  TrainOptions options;
  options.max_steps = steps;
  options.batch_size = 4;
  options.accumulation = 2;
  options.settle_every = 0;
  return options;
}

struct Trained {
  std::vector<double> losses;
  std::vector<std::vector<float>> parameters;
  std::int64_t recorded = 0;
};

class CudaTraining : public Gpu, public testing::WithParamInterface<DType> {
 protected:
  /// `run` trains a tiny model, with dropout and two passes a step.
  template <class Run>
  Trained train(const TrainOptions& options, const Run& run) {
    const auto model = make_model(test::tiny_config("llama"), {GetParam(), kCuda}, 3);
    LoraConfig lora;
    lora.rank = 4;
    lora.dropout = 0.25;
    Lora::attach(*model, lora, 5);
    const std::vector<Sample> samples = ragged_samples(32);
    Trainer trainer(*model, options);
    Trained result;
    run(trainer, samples, result);
    result.recorded = trainer.recorded();
    for (const Tensor& parameter : trainer.parameters())
      result.parameters.push_back(parameter.to_vector<float>());
    return result;
  }
};

TEST_P(CudaTraining, ARecordedRunHasTheBitsOfOneThatCallsItsOps) {
  const TrainOptions options = ragged_options(24);
  const Trained called = train(options, [&](Trainer& trainer, const std::vector<Sample>& samples,
                                            Trained& result) {
    SampleSource source(samples, options);
    const ScheduleOptions schedule{options.schedule, options.adamw.lr, options.floor, 1, options.max_steps};
    for (std::int64_t step = 1; step <= options.max_steps; ++step) {
      std::vector<Batch> batches;
      for (const HostBatch& batch : source.next())
        batches.push_back(bucketed(batch, options.pad_id).upload(kCuda));
      result.losses.push_back(trainer.step(batches, learning_rate(schedule, step)).loss);
    }
  });
  const Trained recorded =
      train(options, [](Trainer& trainer, const std::vector<Sample>& samples, Trained& result) {
        trainer.fit(samples, {}, [&](const StepReport& report) { result.losses.push_back(report.loss); });
      });
  EXPECT_EQ(called.recorded, 0);
  EXPECT_GT(recorded.recorded, 1) << "several buckets";
  EXPECT_EQ(recorded.losses, called.losses);
  EXPECT_EQ(recorded.parameters, called.parameters);
}

TEST_P(CudaTraining, AThousandStepsTakeTheMemoryOfAHundred) {
  Allocator& allocator = device_interface(kCuda).allocator();
  std::size_t after_hundred = 0;
  std::size_t at_end = 0;
  train(ragged_options(1000), [&](Trainer& trainer, const std::vector<Sample>& samples, Trained&) {
    trainer.fit(samples, {}, [&](const StepReport& report) {
      if (report.step == 100) after_hundred = allocator.stats().reserved;
      at_end = allocator.stats().reserved;
    });
  });
  EXPECT_GT(after_hundred, 0U);
  EXPECT_LE(at_end, after_hundred);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaTraining, testing::Values(DType::F32, DType::BF16),
                         [](const auto& given) { return std::string(to_string(given.param)); });

/// Rows so long that a cluster of blocks keeps one in its registers, beside rows that are ignored.
class CudaHeadLoss : public Gpu {};

TEST_F(CudaHeadLoss, TheRowsOfALargeVocabularyAreThoseOfTheCpu) {
  for (const std::int64_t classes : {151936, 152064, 60000, 163844}) {
    Generator generator(5);
    const Tensor x = normal({70, 32}, generator, 0, 1, DType::F32, Device::cpu());
    const Tensor weight = normal({classes, 32}, generator, 0, 0.5, DType::F32, Device::cpu());
    std::vector<std::int32_t> ids(70);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = i % 5 == 0
                   ? static_cast<std::int32_t>(kIgnoreIndex)
                   : static_cast<std::int32_t>(generator.next_below(static_cast<std::uint64_t>(classes)));
    }
    ids.back() = static_cast<std::int32_t>(classes - 1);
    const auto run = [&](Device device) {
      Tensor in = to_device(x, device).detach();  // a leaf
      in.set_requires_grad(true);
      const Tensor loss =
          linear_cross_entropy(in, to_device(weight, device), Tensor::from_values(ids, {70}, device));
      backward(loss);
      return std::pair(loss.item(), in.grad().to_vector<float>());
    };
    const auto [expected, expected_grad] = run(Device::cpu());
    const auto [loss, grad] = run(kCuda);
    EXPECT_NEAR(loss, expected, 1e-5 * expected) << classes;
    const std::vector<double> a(grad.begin(), grad.end());
    const std::vector<double> b(expected_grad.begin(), expected_grad.end());
    EXPECT_LE(test::relative_error(a, b), 1e-5) << classes;
  }
}

}  // namespace
}  // namespace candela
