#include <algorithm>
#include <filesystem>
#include <gtest/gtest.h>
#include <numeric>
#include <set>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>
#include <candela/train/packing.h>
#include <candela/train/trainer.h>

#include "support/errors.h"
#include "support/golden.h"
#include "support/property.h"
#include "support/tiny_models.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::relative_error;
using test::tiny_config;

/// Rows of 2 to `longest` ids below 50; the first third of each is a prompt.
std::vector<Sample> rows(std::size_t count, std::uint64_t longest = 30, std::uint64_t seed = 11) {
  Generator generator(seed);
  std::vector<Sample> samples(count);
  for (Sample& sample : samples) {
    const std::uint64_t length = 2 + generator.next_below(longest - 1);
    for (std::uint64_t t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(50)));
      sample.trained.push_back(t >= length / 3 && t > 0 ? 1 : 0);
    }
    sample.line = static_cast<std::size_t>(&sample - samples.data()) + 1;
  }
  return samples;
}

std::vector<std::size_t> all_of(const std::vector<Sample>& samples) {
  std::vector<std::size_t> which(samples.size());
  std::iota(which.begin(), which.end(), std::size_t{0});
  return which;
}

TEST(Packing, BestFitPutsEachRowOnceIntoPacksThatHoldIt) {
  test::check_property("best fit", [](test::Draw& draw) {
    std::vector<std::size_t> lengths(static_cast<std::size_t>(draw.in(0, 60)));
    const auto capacity = static_cast<std::size_t>(draw.in(1, 40));
    for (std::size_t& length : lengths) length = static_cast<std::size_t>(draw.in(1, 50));
    std::multiset<std::size_t> seen;
    std::size_t emptiest = 0;
    bool holds = true;
    std::vector<std::size_t> sums;
    for (const auto& pack : best_fit_packs(lengths, capacity)) {
      std::size_t sum = 0;
      for (const std::size_t row : pack) sum += lengths.at(row);
      seen.insert(pack.begin(), pack.end());
      holds = holds && !pack.empty() && (sum <= capacity || pack.size() == 1);
      sums.push_back(sum);
    }
    // Two packs that fit into one would have been one.
    std::sort(sums.begin(), sums.end());
    if (sums.size() >= 2) emptiest = sums[0] + sums[1];
    holds = holds && (sums.size() < 2 || emptiest > capacity);
    for (std::size_t row = 0; row < lengths.size(); ++row) holds = holds && seen.count(row) == 1;
    return holds && seen.size() == lengths.size();
  });
}

TEST(Packing, ABatchHoldsRowsBehindEachOther) {
  const std::vector<Sample> samples = {{{5, 6, 7}, {0, 0, 1}, 1, {}}, {{8, 9}, {0, 1}, 2, {}}};
  const HostBatch batch = make_packed_batch(samples, std::vector<std::size_t>{1, 0}, 3);
  EXPECT_EQ(batch.rows, 1);
  EXPECT_EQ(batch.length, 3);
  EXPECT_EQ(batch.ids, (std::vector<std::int32_t>{8, 5, 6}));
  EXPECT_EQ(batch.targets, (std::vector<std::int32_t>{9, 7}));
  EXPECT_EQ(batch.positions, (std::vector<std::int32_t>{0, 2}));
  EXPECT_EQ(batch.sequence_positions, (std::vector<std::int32_t>{0, 0, 1}));
  EXPECT_EQ(batch.cu_seqlens, (std::vector<std::int32_t>{0, 1, 3}));
  EXPECT_EQ(batch.longest, 2);
  EXPECT_EQ(batch.tokens, 3);
  EXPECT_THROW(make_packed_batch(samples, std::vector<std::size_t>{}, 0), InvalidArgument);
  EXPECT_EQ(error_of([&] { make_packed_batch(samples, std::vector<std::size_t>{2}, 0); }),
            "batch: row 2 is not there; the samples are 2");
}

TEST(Packing, PaddingIsASequenceOfItsOwnAndLessThanOneIn64) {
  for (const std::size_t tokens : {1U, 63U, 127U, 129U, 1000U, 1023U, 4095U, 4097U, 100001U}) {
    const std::size_t length = packed_length(tokens);
    EXPECT_GE(length, tokens);
    EXPECT_LT(64 * (length - tokens), length) << tokens;
  }
  EXPECT_EQ(packed_length(1001), 1008U);
  std::vector<Sample> samples = rows(60);
  std::size_t total = 0;
  for (const Sample& sample : samples) total += sample.ids.size() - 1;
  if (packed_length(total) == total) samples.push_back({{1, 2}, {0, 1}, 61, {}});
  const HostBatch batch = make_packed_batch(samples, all_of(samples), 3);
  ASSERT_GT(batch.length, batch.tokens) << "this batch has no padding";
  const auto tokens = static_cast<std::ptrdiff_t>(batch.tokens);
  EXPECT_TRUE(std::all_of(batch.ids.begin() + tokens, batch.ids.end(), [](auto id) { return id == 3; }));
  EXPECT_EQ(batch.cu_seqlens.size(), samples.size() + 2);
  EXPECT_EQ(batch.cu_seqlens.end()[-2], batch.tokens);
  EXPECT_EQ(batch.cu_seqlens.back(), batch.length);
  EXPECT_EQ(batch.sequence_positions.size(), static_cast<std::size_t>(batch.length));
  for (const std::int32_t position : batch.positions) EXPECT_LT(position, batch.tokens);
}

/// The summed loss of a batch, and the gradients of everything that is trained.
struct Learned {
  double loss = 0;
  std::vector<std::vector<double>> gradients;
};

Learned learned(Model& model, const Batch& batch, Checkpointing checkpointing) {
  ForwardOptions forward;
  forward.positions = batch.sequence_positions;
  forward.cu_seqlens = batch.cu_seqlens;
  forward.longest = batch.longest;
  forward.checkpointing = checkpointing;
  const Tensor hidden = model.forward_hidden(batch.ids, forward);
  const Tensor loss =
      model.loss(embedding(reshape(hidden, {-1, hidden.size(-1)}), batch.positions), batch.targets);
  for (const Tensor& parameter : trainable_parameters(model)) parameter.set_grad({});
  backward(loss);
  Learned result{loss.item(), {}};
  for (const Tensor& parameter : trainable_parameters(model)) {
    const std::vector<float> values = parameter.grad().to_vector<float>();
    result.gradients.emplace_back(values.begin(), values.end());
  }
  return result;
}

/// A family, or what a family does with positions and windows.
struct Family {
  const char* name;
  const char* type;
  const char* extra;
};

class PackedFamilies : public testing::TestWithParam<Family> {
 protected:
  static std::unique_ptr<Model> model() {
    ModelConfig config = tiny_config(GetParam().type, GetParam().extra);
    // Beyond them the angles of `dynamic` depend on the length, which must be that of a row.
    if (config.rope.type == "dynamic") config.rope.max_positions = 16;
    return make_model(config, {}, 3);
  }
};

TEST_P(PackedFamilies, LossAndGradientAreThoseOfTheRows) {
  const std::unique_ptr<Model> model = PackedFamilies::model();
  LoraConfig config;
  config.rank = 4;
  config.alpha = 8;
  const Lora lora = Lora::attach(*model, config, 5);
  // B is zero at first, and with it most gradients.
  {
    const NoGrad guard;
    Generator generator(17);
    for (const NamedTensor& parameter : lora.parameters()) {
      if (parameter.name.find("lora_B") == std::string::npos) continue;
      std::vector<float> values(static_cast<std::size_t>(parameter.tensor.numel()));
      for (float& value : values) value = static_cast<float>(generator.next_below(2001)) / 5000.0F - 0.2F;
      copy_(parameter.tensor, Tensor::from_values(values, parameter.tensor.shape()));
    }
  }
  const std::vector<Sample> samples = rows(40);
  const std::vector<std::size_t> which = all_of(samples);
  const Batch padded = make_batch(samples, which, 0, Device::cpu());
  const Batch packed = make_packed_batch(samples, which, 0).upload(Device::cpu());
  EXPECT_EQ(packed.trained_tokens, padded.trained_tokens);
  EXPECT_GT(packed.ids.numel(), packed.tokens) << "padding is among what is compared";
  const Learned expected = learned(*model, padded, Checkpointing::None);
  for (const Checkpointing level : {Checkpointing::None, Checkpointing::Layer}) {
    const Learned got = learned(*model, packed, level);
    EXPECT_NEAR(got.loss, expected.loss, 1e-6 * expected.loss);
    ASSERT_EQ(got.gradients.size(), expected.gradients.size());
    for (std::size_t i = 0; i < expected.gradients.size(); ++i)
      EXPECT_LE(relative_error(got.gradients[i], expected.gradients[i]), 1e-5) << "parameter " << i;
  }
}

TEST_P(PackedFamilies, NoTokenSeesAnotherRow) {
  const NoGrad guard;
  const std::unique_ptr<Model> model = PackedFamilies::model();
  std::vector<Sample> samples = rows(4);
  const auto hidden = [&] {
    const Batch batch = make_packed_batch(samples, all_of(samples), 0).upload(Device::cpu());
    ForwardOptions forward;
    forward.positions = batch.sequence_positions;
    forward.cu_seqlens = batch.cu_seqlens;
    forward.longest = batch.longest;
    return model->forward_hidden(batch.ids, forward).to_vector<float>();
  };
  const std::vector<float> before = hidden();
  for (TokenId& id : samples[1].ids) id = (id + 7) % 50;
  const std::vector<float> after = hidden();
  const auto width = static_cast<std::ptrdiff_t>(model->config().hidden_size);
  const auto first = static_cast<std::ptrdiff_t>(samples[0].ids.size() - 1) * width;
  const auto last = first + static_cast<std::ptrdiff_t>(samples[1].ids.size() - 1) * width;
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + first, after.begin()));
  EXPECT_FALSE(std::equal(before.begin() + first, before.begin() + last, after.begin() + first));
  EXPECT_TRUE(std::equal(before.begin() + last, before.end(), after.begin() + last));
}

INSTANTIATE_TEST_SUITE_P(
    All, PackedFamilies,
    testing::Values(Family{"llama", "llama", ""}, Family{"qwen2", "qwen2", ""}, Family{"qwen3", "qwen3", ""},
                    Family{"phi3_partial_rotary", "phi3", R"(, "partial_rotary_factor": 0.5)"},
                    Family{"smollm3_without_rope", "smollm3", R"(, "no_rope_layers": [1, 0])"},
                    Family{"mistral_window", "mistral", R"(, "sliding_window": 4)"},
                    Family{"gemma3_two_ropes", "gemma3_text",
                           R"(, "head_dim": 8, "sliding_window": 4, "sliding_window_pattern": 2)"},
                    Family{"linear", "llama", R"(, "rope_scaling": {"rope_type": "linear", "factor": 2.0})"},
                    Family{"llama3", "llama", R"(, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16})"},
                    Family{"yarn", "qwen2", R"(, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 32})"},
                    Family{"dynamic", "llama",
                           R"(, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0})"}),
    [](const auto& test) { return std::string(test.param.name); });

TrainOptions packed_options(std::int64_t batch_size, std::int64_t accumulation = 1) {
  TrainOptions options;
  options.batch_size = batch_size;
  options.accumulation = accumulation;
  options.pack_length = 40;
  options.epochs = 3;
  options.seed = 9;
  return options;
}

TEST(Packing, EveryEpochGivesEveryRowOnceInAsManySteps) {
  const std::vector<Sample> samples = rows(61);
  std::int64_t tokens = 0;
  for (const Sample& sample : samples) tokens += static_cast<std::int64_t>(sample.ids.size()) - 1;
  SampleSource source(samples, packed_options(3));
  const TrainLength length = source.length();
  EXPECT_EQ(length.tokens, 3 * tokens);
  ASSERT_EQ(length.steps % 3, 0);
  std::vector<std::vector<std::int32_t>> first_batches;
  std::int64_t computed = 0;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::int64_t seen = 0;
    for (std::int64_t step = 0; step < length.steps / 3; ++step) {
      const std::vector<HostBatch> batches = source.next();
      ASSERT_EQ(batches.size(), 1U);
      EXPECT_LE(batches[0].tokens, 3 * 40);
      EXPECT_EQ(batches[0].length, batches[0].tokens) << "so short a pack has no padding";
      computed += batches[0].computed();
      seen += batches[0].tokens;
      if (step == 0) first_batches.push_back(batches[0].ids);
    }
    EXPECT_EQ(seen, tokens) << "epoch " << epoch;
  }
  EXPECT_NE(first_batches[0], first_batches[1]) << "epochs differ in their order";
  EXPECT_EQ(length.padding, 1 - static_cast<double>(3 * tokens) / static_cast<double>(computed));
}

TEST(Packing, ARowThatNoPackHoldsIsNamed) {
  const std::vector<Sample> samples = rows(3, 60);
  TrainOptions options = packed_options(1);
  options.pack_length = 10;
  const std::string error = error_of([&] { SampleSource(samples, options); });
  EXPECT_NE(error.find("a pack takes rows of at most 11; raise the length of packs (--pack-length)"),
            std::string::npos)
      << error;
  options.pack_length = -1;
  EXPECT_NE(error_of([&] { check_train_options(options); }).find("pack_length must be in [0,"),
            std::string::npos);
}

/// Packs in one pass, or one after the other: the same rows, and so the same loss and norm.
TEST(Packing, AccumulatedPacksAreOneLargeBatch) {
  const std::vector<Sample> samples = rows(40);
  std::vector<std::vector<std::pair<double, double>>> runs;
  for (const std::int64_t passes : {1, 4}) {
    auto model = make_model(tiny_config("llama"), {}, 3);
    Lora::attach(*model, {}, 5);
    TrainOptions options = packed_options(4 / passes, passes);
    options.max_steps = 4;
    runs.emplace_back();
    Trainer(*model, options).fit(samples, samples, [&](const StepReport& report) {
      runs.back().emplace_back(report.loss, report.grad_norm);
      if (report.validation_loss) runs.back().emplace_back(*report.validation_loss, 1);
    });
  }
  ASSERT_EQ(runs[0].size(), runs[1].size());
  for (std::size_t i = 0; i < runs[0].size(); ++i) {
    EXPECT_NEAR(runs[0][i].first, runs[1][i].first, 1e-5 * runs[0][i].first);
    EXPECT_NEAR(runs[0][i].second, runs[1][i].second, 1e-4 * runs[0][i].second);
  }
}

TEST(Packing, TheFirstPlannedBatchIsTheLongestOfTheRun) {
  const std::vector<Sample> samples = rows(61);
  SampleSource source(samples, packed_options(3, 2));
  const std::vector<HostBatch> planned = source.planned();
  ASSERT_EQ(planned.size(), 3U);
  std::int64_t longest = 0, most_trained = 0;
  for (std::int64_t step = 0; step < source.length().steps; ++step) {
    for (const HostBatch& batch : source.next()) {
      longest = std::max(longest, batch.length);
      most_trained = std::max(most_trained, batch.trained_tokens());
    }
  }
  EXPECT_EQ(planned[0].length, longest);
  EXPECT_EQ(planned[1].trained_tokens(), most_trained);
}

/// Rows as people have them, packed to the model's context; the data lie beside the checkout.
class PackedData : public testing::TestWithParam<const char*> {};

TEST_P(PackedData, LessThanTwoPercentOfThePositionsArePadding) {
  const fs::path file = fs::path(CANDELA_SOURCE_DIR) / "../shared/data" / GetParam();
  std::error_code error;
  if (!fs::exists(file, error)) GTEST_SKIP() << file << " is not there";
  const fs::path model = fs::path(CANDELA_SOURCE_DIR) / "models/stories-7m";
  const Tokenizer tokenizer = Tokenizer::load(model);
  const ModelConfig config = ModelConfig::load(model);
  DatasetOptions options = DatasetOptions::for_model(tokenizer, config);
  options.truncate = true;
  if (file.string().find("gsm8k") != std::string::npos)
    options.map = {{"prompt", "question"}, {"completion", "answer"}};
  const Dataset data = Dataset::load(file, tokenizer, options);
  TrainOptions train;
  train.pack_length = config.max_position_embeddings;
  SampleSource source(data.samples, train);
  std::int64_t tokens = 0, computed = 0, steps = 0;
  for (; steps < source.length().steps; ++steps) {
    for (const HostBatch& batch : source.next()) {
      tokens += batch.tokens;
      computed += batch.computed();
    }
  }
  EXPECT_EQ(tokens, source.length().tokens);
  EXPECT_LT(1 - static_cast<double>(tokens) / static_cast<double>(computed), 0.02);
  EXPECT_LT(source.length().padding, 0.02);
  train.pack_length = 0;
  EXPECT_LT(steps, SampleSource(data.samples, train).length().steps);
}

INSTANTIATE_TEST_SUITE_P(
    Sets, PackedData, testing::Values("gsm8k/test.jsonl", "wikisql-lora/train.jsonl"), [](const auto& test) {
      return std::string(test.param).substr(0, std::string(test.param).find_first_of("-/"));
    });

}  // namespace
}  // namespace candela
