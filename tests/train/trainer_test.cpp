#include <gtest/gtest.h>
#include <limits>

#include <candela/core/parallel.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/train/trainer.h>

#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;

ModelConfig tiny_config() {
  return ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 0.3})",
      "tiny");
}

LoraConfig tiny_lora() {
  LoraConfig config;
  config.rank = 4;
  config.alpha = 8;
  return config;
}

std::unique_ptr<Model> tiny_model(Device device = Device::cpu()) {
  auto model = make_model(tiny_config(), {DType::F32, device}, 3);
  Lora::attach(*model, tiny_lora(), 5);
  return model;
}

/// Rows of different lengths; the first third of each is a prompt.
std::vector<Sample> rows(std::size_t count) {
  Generator generator(11);
  std::vector<Sample> samples(count);
  for (Sample& sample : samples) {
    const std::uint64_t length = 6 + generator.next_below(20);
    for (std::uint64_t t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(96)));
      sample.trained.push_back(t >= length / 3 + 1 ? 1 : 0);
    }
  }
  return samples;
}

std::vector<float> values(const Model& model) {
  std::vector<float> all;
  for (const Tensor& parameter : trainable_parameters(model)) {
    const auto part = parameter.to_vector<float>();
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

Batch batch_of(const std::vector<Sample>& samples, std::vector<std::size_t> which) {
  return make_batch(samples, which, 0, Device::cpu());
}

TEST(Trainer, EightRowsAtOnceEqualEightAccumulatedPasses) {
  const std::vector<Sample> samples = rows(8);
  const auto together = tiny_model();
  const auto apart = tiny_model();
  Trainer one(*together, {});
  Trainer eight(*apart, {});
  std::vector<Batch> singles;
  for (std::size_t i = 0; i < 8; ++i) singles.push_back(batch_of(samples, {i}));
  const Batch all = batch_of(samples, {0, 1, 2, 3, 4, 5, 6, 7});
  for (int step = 0; step < 3; ++step) {
    const Trainer::StepOutcome at_once = one.step(std::span(&all, 1), 1e-2);
    const Trainer::StepOutcome in_turn = eight.step(singles, 1e-2);
    EXPECT_NEAR(at_once.loss, in_turn.loss, 1e-5 * at_once.loss);
    EXPECT_NEAR(at_once.norm, in_turn.norm, 1e-4 * at_once.norm);
  }
}

TEST(Trainer, SameSeedSameBits) {
  const std::vector<Sample> samples = rows(24);
  std::vector<std::vector<float>> runs;
  for (int run = 0; run < 2; ++run) {
    auto model = make_model(tiny_config(), {DType::F32, Device::cpu()}, 3);
    LoraConfig config = tiny_lora();
    config.dropout = 0.1;
    Lora::attach(*model, config, 5);
    TrainOptions options;
    options.batch_size = 4;
    options.epochs = 2;
    options.seed = 9;
    Trainer(*model, options).fit(samples, {}, [](const StepReport&) {});
    runs.push_back(values(*model));
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST(Trainer, ARunNeedsNobodyToReportTo) {
  auto model = make_model(tiny_config(), {DType::F32, Device::cpu()}, 3);
  Lora::attach(*model, tiny_lora(), 5);
  TrainOptions options;
  options.batch_size = 4;
  options.max_steps = 2;
  options.validate_first = true;
  const std::vector<Sample> samples = rows(8);
  Trainer trainer(*model, options);
  EXPECT_TRUE(trainer.fit(samples, samples, std::function<void(const StepReport&)>()));
  EXPECT_EQ(trainer.state().step, 2);
}

TEST(Trainer, LearnsAndReportsWhatItDid) {
  std::vector<Sample> samples = rows(16);
  for (Sample& sample : samples) {  // a rule to learn: eight tokens in a fixed cycle
    for (std::size_t t = 1; t < sample.ids.size(); ++t) sample.ids[t] = (sample.ids[t - 1] * 5 + 1) % 8;
  }
  const auto model = tiny_model();
  TrainOptions options;
  options.batch_size = 8;
  options.max_steps = 60;
  options.adamw.lr = 2e-2;
  options.validate_every = 30;
  Trainer trainer(*model, options);
  const TrainLength length = trainer.length(samples);
  const double before = evaluate_loss(*model, samples, 8, 0);
  std::vector<StepReport> reports;
  trainer.fit(samples, samples, [&](const StepReport& report) { reports.push_back(report); });
  ASSERT_EQ(reports.size(), 60U);
  EXPECT_EQ(length.steps, 60);
  EXPECT_EQ(reports.back().tokens, length.tokens);
  EXPECT_EQ(reports.back().trained_tokens, length.trained_tokens);
  ASSERT_TRUE(reports[29].validation_loss.has_value());
  ASSERT_TRUE(reports.back().validation_loss.has_value());
  EXPECT_FALSE(reports[0].validation_loss.has_value());
  EXPECT_LT(*reports.back().validation_loss, 0.7 * before);
}

TEST(Trainer, ALossThatIsNotFiniteStopsBeforeTheParametersChange) {
  const std::vector<Sample> samples = rows(4);
  const auto model = tiny_model();
  Trainer trainer(*model, {});
  const Batch batch = batch_of(samples, {0, 1, 2, 3});
  trainer.step(std::span(&batch, 1), 1e-3);
  fill_(model->named_parameters()[0].tensor, std::numeric_limits<double>::quiet_NaN());
  const std::vector<float> before = values(*model);
  try {
    trainer.step(std::span(&batch, 1), 1e-3);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the loss became nan at step 2"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(values(*model), before);
}

/// A weight that is no number makes every loss so: the error names it, not the data or the rate.
TEST(Trainer, ABrokenWeightIsNamed) {
  const std::vector<Sample> samples = rows(4);
  const auto model = tiny_model();
  fill_(model->named_parameters()[5].tensor, std::numeric_limits<double>::infinity());
  const std::string name = model->named_parameters()[5].name;
  Trainer trainer(*model, {});
  EXPECT_NE(error_of([&] { trainer.fit(samples, {}, [](const StepReport&) {}); }).find(name),
            std::string::npos);
  EXPECT_NE(error_of([&] { evaluate_loss(*model, samples, 2, 0); }).find(name), std::string::npos);
}

/// The loss of a step is that before its update: what the last one breaks is found all the same.
TEST(Trainer, ABrokenLastUpdateIsFound) {
  const std::vector<Sample> samples = rows(4);
  for (const double rate : {1e38, 1e39, 1e300}) {
    for (const bool validated : {false, true}) {
      const auto model = tiny_model();
      TrainOptions options;
      options.max_steps = 1;
      options.adamw.lr = rate;
      const std::string error = error_of([&] {
        Trainer(*model, options)
            .fit(samples, validated ? std::span<const Sample>(samples) : std::span<const Sample>(),
                 [](const StepReport&) {});
      });
      EXPECT_NE(error.find("lower the learning rate"), std::string::npos) << rate << ": " << error;
    }
  }
}

TEST(Trainer, StopEndsTheRunAfterItsStep) {
  const std::vector<Sample> samples = rows(16);
  const auto model = tiny_model();
  TrainOptions options;
  options.max_steps = 50;
  options.batch_size = 4;
  options.validate_every = 1;
  bool stop = false;
  options.stop = [&] { return stop; };
  std::vector<StepReport> reports;
  const bool finished = Trainer(*model, options).fit(samples, samples, [&](const StepReport& report) {
    reports.push_back(report);
    stop = report.step == 3;
  });
  EXPECT_FALSE(finished);
  ASSERT_EQ(reports.size(), 3U);
  EXPECT_TRUE(reports.back().validation_loss.has_value());
  EXPECT_FALSE(Trainer(*model, options).fit(samples, {}, [](const StepReport&) { FAIL() << "a step"; }));
  options.stop = {};
  options.max_steps = 2;
  EXPECT_TRUE(Trainer(*model, options).fit(samples, {}, [](const StepReport&) {}));
}

/// Every row is in exactly one step of an epoch: the last step of an epoch may take fewer passes.
TEST(Trainer, AccumulationEndsWithTheEpoch) {
  const std::vector<Sample> samples = rows(10);
  const auto model = tiny_model();
  TrainOptions options;
  options.batch_size = 2;
  options.accumulation = 3;  // 5 batches: steps of 3 and 2
  options.epochs = 2;
  Trainer trainer(*model, options);
  const TrainLength length = trainer.length(samples);
  EXPECT_EQ(length.steps, 4);
  std::int64_t per_epoch = 0;
  for (const Sample& sample : samples) per_epoch += static_cast<std::int64_t>(sample.ids.size()) - 1;
  EXPECT_EQ(length.tokens, 2 * per_epoch);
  std::vector<StepReport> reports;
  trainer.fit(samples, {}, [&](const StepReport& report) { reports.push_back(report); });
  ASSERT_EQ(reports.size(), 4U);
  EXPECT_EQ(reports[1].tokens, per_epoch);
  EXPECT_EQ(reports[3].tokens, 2 * per_epoch);
  options.epochs = 0.5;
  EXPECT_EQ(Trainer(*tiny_model(), options).length(samples).steps, 1);
}

/// A hundred million steps are counted, not listed.
TEST(Trainer, TheLengthOfALongRunIsCounted) {
  const std::vector<Sample> samples = rows(10);
  const auto model = tiny_model();
  TrainOptions options;
  options.batch_size = 4;
  options.max_steps = 7;
  std::int64_t tokens = 0;
  std::int64_t trained = 0;
  Trainer short_run(*model, options);
  short_run.fit(samples, {}, [&](const StepReport& report) {
    tokens = report.tokens;
    trained = report.trained_tokens;
  });
  EXPECT_EQ(short_run.length(samples).tokens, tokens);
  EXPECT_EQ(short_run.length(samples).trained_tokens, trained);
  options.max_steps = 300'000'000;
  const TrainLength length = Trainer(*model, options).length(samples);
  EXPECT_EQ(length.steps, 300'000'000);
  std::int64_t per_epoch = 0;
  for (const Sample& sample : samples) per_epoch += static_cast<std::int64_t>(sample.ids.size()) - 1;
  EXPECT_EQ(length.tokens, 100'000'000 * per_epoch);
  EXPECT_EQ(SampleSource(samples, options).planned().front().rows, 4);
}

TEST(Trainer, OptionsOutOfRangeAreNamed) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto error = [](const std::function<void(TrainOptions&)>& change) {
    TrainOptions options;
    change(options);
    return error_of([&] { Trainer(*tiny_model(), options); });
  };
  EXPECT_EQ(error([&](TrainOptions& o) { o.adamw.lr = nan; }),
            "train: adamw.lr must be a finite number above 0; got nan");
  for (const double value : {nan, infinity, 0.0, -1.0}) {
    EXPECT_NE(error([&](TrainOptions& o) { o.adamw.lr = value; }).find("adamw.lr"), std::string::npos);
    EXPECT_NE(error([&](TrainOptions& o) { o.adamw.eps = value; }).find("adamw.eps"), std::string::npos);
    EXPECT_NE(error([&](TrainOptions& o) { o.epochs = value; }).find("epochs"), std::string::npos);
  }
  for (const double value : {nan, infinity, -0.1, 1.1}) {
    EXPECT_NE(error([&](TrainOptions& o) { o.adamw.beta1 = value; }).find("adamw.beta1"), std::string::npos);
    EXPECT_NE(error([&](TrainOptions& o) { o.adamw.beta2 = value; }).find("adamw.beta2"), std::string::npos);
    EXPECT_NE(error([&](TrainOptions& o) { o.floor = value; }).find("floor"), std::string::npos);
    EXPECT_NE(error([&](TrainOptions& o) { o.warmup = value; }).find("warmup"), std::string::npos);
  }
  for (const double value : {nan, infinity, -0.1}) {
    EXPECT_NE(error([&](TrainOptions& o) { o.adamw.weight_decay = value; }).find("weight_decay"),
              std::string::npos);
    EXPECT_NE(error([&](TrainOptions& o) { o.clip_norm = value; }).find("clip_norm"), std::string::npos);
  }
  EXPECT_NE(error([](TrainOptions& o) { o.batch_size = 0; }).find("batch_size"), std::string::npos);
  EXPECT_NE(error([](TrainOptions& o) { o.accumulation = -1; }).find("accumulation"), std::string::npos);
  EXPECT_NE(error([](TrainOptions& o) { o.max_steps = -1; }).find("max_steps"), std::string::npos);
  EXPECT_NE(error([](TrainOptions& o) { o.validate_every = INT64_MIN; }).find("validate_every"),
            std::string::npos);
  EXPECT_NE(error([](TrainOptions& o) { o.pad_id = -1; }).find("pad_id"), std::string::npos);
  EXPECT_NE(error([](TrainOptions& o) { o.pad_id = 96; }).find("pad_id"), std::string::npos);
  EXPECT_EQ(error([](TrainOptions&) {}), "no error");
}

TEST(Trainer, RowsThatWouldEndARunAreFoundBeforeIt) {
  const auto error = [](const Sample& bad) {
    std::vector<Sample> samples = rows(3);
    samples.push_back(bad);
    const auto model = tiny_model();
    return error_of([&] { Trainer(*model, {}).fit(samples, {}, [](const StepReport&) {}); });
  };
  EXPECT_NE(error({{5, 6, 7}, {0, 0, 0}, 4}).find("row 3 (line 4) has no token to train on"),
            std::string::npos);
  EXPECT_NE(error({{5}, {0}, 4}).find("row 3 (line 4) must have at least 2 tokens"), std::string::npos);
  EXPECT_NE(error({{5, 96}, {0, 1}, 4}).find("row 3 (line 4) holds the token 96"), std::string::npos);
}

/// A run that validates at its end must not find out there that it can not.
TEST(Trainer, ValidationRowsThatWouldEndARunAreFoundBeforeIt) {
  const std::vector<Sample> samples = rows(4);
  for (const auto& [bad, expected] :
       {std::pair(Sample{{5, 6, 7}, {0, 0, 0}, 4}, "has no token to train on"),
        std::pair(Sample{{5}, {0}, 4}, "must have at least 2 tokens"),
        std::pair(Sample{{5, 6}, {0}, 4}, "must have at least 2 tokens, each with its mark; got 2 and 1"),
        std::pair(Sample{{5, 96}, {0, 1}, 4}, "holds the token 96"),
        std::pair(Sample{{5, -1}, {0, 1}, 4}, "holds the token -1")}) {
    std::vector<Sample> valid = rows(3);
    valid.push_back(bad);
    const auto model = tiny_model();
    Trainer trainer(*model, {});
    const std::string error =
        error_of([&] { trainer.fit(samples, valid, [](const StepReport&) { FAIL() << "a step"; }); });
    EXPECT_NE(error.find("validation row 3 (line 4) " + std::string(expected)), std::string::npos) << error;
    EXPECT_EQ(error_of([&] { trainer.rehearse_validation(valid); }), error);
  }
}

TEST(Trainer, NothingToTrainIsAnError) {
  const auto model = make_model(tiny_config(), {DType::F32, Device::cpu()}, 3);
  EXPECT_THROW(Trainer(*model, {}), InvalidArgument);
}

TEST(Batch, PaddingIsNeitherTrainedNorCounted) {
  const std::vector<Sample> samples = {{{5, 6, 7, 8}, {0, 0, 1, 1}, 1}, {{9, 10}, {0, 1}, 2}};
  const std::vector<std::size_t> which = {0, 1};
  const Batch batch = make_batch(samples, which, 3, Device::cpu());
  EXPECT_EQ(batch.ids.to_vector<std::int32_t>(), (std::vector<std::int32_t>{5, 6, 7, 9, 3, 3}));
  EXPECT_EQ(batch.targets.to_vector<std::int32_t>(), (std::vector<std::int32_t>{7, 8, 10}));
  EXPECT_EQ(batch.positions.to_vector<std::int32_t>(), (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(batch.tokens, 4);
  EXPECT_EQ(batch.trained_tokens, 3);
}

TEST(Batch, RowsThatCannotBeABatchAreNamed) {
  const std::vector<Sample> samples = {
      {{5, 6}, {0, 1}, 1}, {{5, 6, 7}, {0, 1}, 2}, {{5}, {0}, 3}, {{}, {}, 4}};
  const auto error = [&](std::size_t row) {
    const std::vector<std::size_t> which = {0, row};
    const std::string batch = error_of([&] { make_batch(samples, which, 0, Device::cpu()); });
    EXPECT_EQ(error_of([&] { Positions().add(samples, which); }), batch);
    return batch;
  };
  EXPECT_EQ(error(1), "batch: row 1 must have a mark for each of its 3 tokens; got 2 marks");
  EXPECT_EQ(error(2), "batch: row 2 has 1 tokens; at least 2 are needed to predict one");
  EXPECT_EQ(error(3), "batch: row 3 has 0 tokens; at least 2 are needed to predict one");
  EXPECT_EQ(error(4), "batch: row 4 is not there; the samples are 4");
  const auto model = tiny_model();
  EXPECT_NE(error_of([&] { evaluate_loss(*model, std::span(samples).first(2), 2, 0); }).find("batch: row 1"),
            std::string::npos);
}

TEST(Batch, BucketsHoldEveryRowOnceAndAlikeLengthsTogether) {
  const std::vector<Sample> samples = rows(103);
  Generator generator(2);
  const auto batches = bucketed_batches(samples, 8, generator);
  std::vector<int> seen(samples.size());
  for (const auto& batch : batches) {
    for (const std::size_t row : batch) ++seen[row];
  }
  EXPECT_EQ(seen, std::vector<int>(samples.size(), 1));
  std::vector<std::vector<std::size_t>> in_order;
  for (std::size_t at = 0; at < samples.size(); at += 8) {
    in_order.emplace_back();
    for (std::size_t i = at; i < std::min(at + 8, samples.size()); ++i) in_order.back().push_back(i);
  }
  const auto padding = [&](const std::vector<std::vector<std::size_t>>& all) {
    Positions positions;
    for (const auto& batch : all) positions.add(samples, batch);
    return positions.padding_share();
  };
  EXPECT_LT(padding(batches), 0.5 * padding(in_order));
}

}  // namespace
}  // namespace candela
