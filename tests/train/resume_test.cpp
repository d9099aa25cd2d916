#include <gtest/gtest.h>
#include <limits>

#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/train/trainer.h>

#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;

std::unique_ptr<Model> tiny_model() {
  const ModelConfig config = ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 0.3})",
      "tiny");
  auto model = make_model(config, {DType::F32, Device::cpu()}, 3);
  LoraConfig lora;
  lora.rank = 4;
  lora.dropout = 0.1;
  Lora::attach(*model, lora, 5);
  return model;
}

std::vector<Sample> rows(std::size_t count, std::uint64_t seed = 11) {
  Generator generator(seed);
  std::vector<Sample> samples(count);
  for (Sample& sample : samples) {
    const std::uint64_t length = 6 + generator.next_below(20);
    for (std::uint64_t t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(96)));
      sample.trained.push_back(1);
    }
  }
  return samples;
}

/// pack_length: as TrainOptions
TrainOptions run_options(std::int64_t pack_length = 0) {
  TrainOptions options;
  options.pack_length = pack_length;
  options.batch_size = 2;
  options.accumulation = 3;
  options.epochs = 3;
  options.adamw.lr = 1e-2;
  options.validate_every = 2;
  options.seed = 9;
  return options;
}

/// What a run has made by some step.
struct Made {
  RunState state;
  std::vector<std::vector<float>> parameters, moments;
  std::vector<double> numbers;  // losses, norms, rates and validation losses so far

  bool operator==(const Made& other) const {
    return parameters == other.parameters && moments == other.moments && numbers == other.numbers &&
           state.place == other.state.place && state.tokens == other.state.tokens;
  }
};

Made made_by(const Trainer& trainer, const std::vector<double>& numbers) {
  Made made{trainer.state(), {}, {}, numbers};
  for (const Tensor& parameter : trainer.parameters())
    made.parameters.push_back(parameter.to_vector<float>());
  for (const NamedTensor& moment : trainer.optimizer().moments())
    made.moments.push_back(moment.tensor.to_vector<float>());
  return made;
}

/// Runs from `from` (null: the beginning) to its end; what was there after each step.
std::vector<Made> run(const Made* from, std::int64_t pack_length = 0) {
  const std::vector<Sample> samples = rows(17);
  const std::vector<Sample> held_out = rows(5, 12);
  const auto model = tiny_model();
  Trainer trainer(*model, run_options(pack_length));
  std::vector<double> numbers;
  if (from != nullptr) {
    for (std::size_t i = 0; i < from->parameters.size(); ++i) {
      const Tensor parameter = trainer.parameters()[i].detach();
      copy_(parameter, Tensor::from_values(from->parameters[i], parameter.shape()));
    }
    std::vector<NamedTensor> moments = trainer.optimizer().moments();
    for (std::size_t i = 0; i < moments.size(); ++i)
      moments[i].tensor = Tensor::from_values(from->moments[i], moments[i].tensor.shape());
    trainer.optimizer().restore(moments, from->state.updates);
    trainer.restore(from->state);
    numbers = from->numbers;
  }
  std::vector<Made> all;
  trainer.fit(samples, held_out, [&](const StepReport& report) {
    numbers.insert(numbers.end(), {report.loss, report.grad_norm, report.learning_rate,
                                   report.validation_loss.value_or(-1), double(report.tokens)});
    all.push_back(made_by(trainer, numbers));
  });
  return all;
}

TEST(Resume, FromAnyStepGivesTheBitsOfTheUnbrokenRun) {
  const std::vector<Made> whole = run(nullptr);
  ASSERT_EQ(whole.size(), 9U);  // 9 batches an epoch, steps of 3
  for (std::size_t step = 1; step < whole.size(); ++step) {
    const std::vector<Made> rest = run(&whole[step - 1]);
    ASSERT_EQ(rest.size(), whole.size() - step);
    for (std::size_t i = 0; i < rest.size(); ++i)
      EXPECT_TRUE(rest[i] == whole[step + i]) << "from step " << step << ", at step " << step + i + 1;
  }
  EXPECT_TRUE(run(&whole.back()).empty());
}

TEST(Resume, APackedRunGoesOnToTheSameBits) {
  const std::vector<Made> whole = run(nullptr, 30);
  ASSERT_GE(whole.size(), 6U);
  for (std::size_t step = 1; step < whole.size(); ++step) {
    const std::vector<Made> rest = run(&whole[step - 1], 30);
    ASSERT_EQ(rest.size(), whole.size() - step);
    EXPECT_TRUE(rest.back() == whole.back()) << "from step " << step;
  }
}

TEST(Resume, AnotherPlaceInTheDataIsRefused) {
  const std::vector<Sample> samples = rows(17);
  SampleSource source(samples, run_options());
  source.next();
  const std::string place = source.place();
  SampleSource same(samples, run_options());
  same.restore(place);
  EXPECT_EQ(same.next().front().ids, source.next().front().ids);
  const std::vector<Sample> others = rows(17, 12);
  EXPECT_NE(error_of<IoError>([&] {
              SampleSource(others, run_options()).restore(place);
            }).find("the data are not those of the run: it had 17 rows"),
            std::string::npos);
  TrainOptions options = run_options();
  options.accumulation = 2;
  EXPECT_NE(error_of<IoError>([&] {
              SampleSource(samples, options).restore(place);
            }).find("no step of epoch 0 ends after batch 3"),
            std::string::npos);
  EXPECT_NE(error_of<IoError>([&] {
              SampleSource(samples, run_options(30)).restore(place);
            }).find("were packed to 0 tokens (0: not at all), now they are to 30"),
            std::string::npos);
  for (const char* bad : {"", "{}", "[1]", "{\"epoch\": -1, \"batch\": 0, \"rows\": 17}", "nonsense"})
    EXPECT_THROW(SampleSource(samples, run_options()).restore(bad), IoError) << bad;
}

TEST(Resume, MomentsThatDoNotFitAreNamed) {
  const auto model = tiny_model();
  Trainer trainer(*model, {});
  std::vector<NamedTensor> moments = trainer.optimizer().moments();
  const std::string first = moments.front().name;
  moments.front().name = "exp_avg.other";
  EXPECT_EQ(error_of<IoError>([&] { trainer.optimizer().restore(moments, 1); }),
            "optimizer: " + first + " is missing among the moments");
  moments = trainer.optimizer().moments();
  moments.push_back({"exp_avg.other", zeros({1})});
  EXPECT_EQ(error_of<IoError>([&] { trainer.optimizer().restore(moments, 1); }),
            "optimizer: exp_avg.other belongs to no parameter of this run");
  moments = trainer.optimizer().moments();
  moments.back().tensor = zeros({1, 1});
  EXPECT_THROW(trainer.optimizer().restore(moments, 1), IoError);
}

/// f16 overflows: the step in which it does changes nothing, and the run goes on.
TEST(Skipping, AStepThatIsNotFiniteChangesNothingAndIsReported) {
  const auto model = tiny_model();
  TrainOptions options;
  options.max_skipped = 2;
  Trainer trainer(*model, options);
  const std::vector<Sample> samples = rows(4);
  const std::vector<std::size_t> which = {0, 1, 2, 3};
  const Batch batch = make_batch(samples, which, 0, Device::cpu());
  trainer.step(std::span(&batch, 1), 1e-3);
  // A finite weight so large that its products are not.
  const Tensor norm = model->named_parameters()[9].tensor;
  const Tensor kept = clone(norm);
  fill_(norm, std::numeric_limits<float>::max());
  const Made before = made_by(trainer, {});
  for (int skipped = 1; skipped <= 2; ++skipped) {
    const Trainer::StepOutcome outcome = trainer.step(std::span(&batch, 1), 1e-3);
    EXPECT_NE(outcome.skipped.find("at step " + std::to_string(skipped + 1)), std::string::npos)
        << outcome.skipped;
    EXPECT_EQ(made_by(trainer, {}).parameters, before.parameters);
    EXPECT_EQ(made_by(trainer, {}).moments, before.moments);
    EXPECT_EQ(trainer.state().updates, 1);
  }
  EXPECT_NE(error_of<Error>([&] { trainer.step(std::span(&batch, 1), 1e-3); }).find("at step 4"),
            std::string::npos);
  copy_(norm, kept);
  EXPECT_TRUE(trainer.step(std::span(&batch, 1), 1e-3).skipped.empty());
  EXPECT_EQ(trainer.state().skipped_in_a_row, 0);
  EXPECT_NE(made_by(trainer, {}).parameters, before.parameters);
}

TEST(Validation, BeforeTheFirstStepAndUntilPatienceIsOut) {
  const std::vector<Sample> samples = rows(17);
  TrainOptions options = run_options();
  options.validate_first = true;
  options.validate_every = 1;
  options.patience = 2;
  options.epochs = 100;
  options.adamw.lr = 1e-30;  // nothing is learnt: no validation is better than the first
  const auto model = tiny_model();
  std::vector<StepReport> reports;
  EXPECT_TRUE(Trainer(*model, options).fit(samples, rows(5, 12), [&](const StepReport& report) {
    reports.push_back(report);
  }));
  ASSERT_EQ(reports.size(), 3U);
  EXPECT_EQ(reports[0].step, 0);
  EXPECT_TRUE(reports[0].best);
  EXPECT_FALSE(reports[1].best);
  EXPECT_FALSE(reports[1].out_of_patience);
  EXPECT_TRUE(reports[2].out_of_patience);
}

TEST(Optimizer, AdaptersAreOneBlockWithOneGradient) {
  const auto model = tiny_model();
  Trainer trainer(*model, {});
  const std::vector<Sample> samples = rows(2);
  const std::vector<std::size_t> which = {0, 1};
  const Batch batch = make_batch(samples, which, 0, Device::cpu());
  trainer.step(std::span(&batch, 1), 1e-3);
  std::int64_t count = 0;
  for (const Tensor& parameter : trainer.parameters()) {
    count += parameter.numel();
    EXPECT_EQ(parameter.storage(), trainer.parameters()[0].storage());
    EXPECT_EQ(parameter.grad().storage(), trainer.parameters()[0].grad().storage());
  }
  EXPECT_EQ(trainer.optimizer().bytes(), 16 * static_cast<std::size_t>(count));
}

}  // namespace
}  // namespace candela
