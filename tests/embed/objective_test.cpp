#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <set>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>
#include <candela/embed/objective.h>
#include <candela/embed/text_source.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/train/memory_plan.h>

#include "support/errors.h"
#include "support/golden.h"

namespace candela {
namespace {

using test::error_of;
using test::relative_error;
using test::values_of;

/// [3, 4]: function(start + step * i) of the i-th element.
Tensor waves(double (*function)(double), double start, double step) {
  std::vector<double> values;
  for (int i = 0; i < 12; ++i) values.push_back(function(start + step * i));
  Tensor result = Tensor::from_values(values, {3, 4});
  result.set_requires_grad(true);
  return result;
}

const std::vector<float> kScores = {0.25F, 1.0F, 0.25F};

struct LossCase {
  const char* name;
  std::function<Tensor(const std::vector<Tensor>&)> loss;
  bool negatives;
  /// what sentence-transformers 6.2 gives in float64, and the first two elements of each gradient
  double expected;
  std::vector<double> gradients;

  friend void PrintTo(const LossCase& shown, std::ostream* out) { *out << shown.name; }
};

class EmbedLosses : public testing::TestWithParam<LossCase> {
 protected:
  EmbedLosses() {
    inputs_ = {waves(std::sin, 1, 1), waves(std::cos, 2, 1)};
    if (GetParam().negatives) inputs_.push_back(waves(std::sin, 3, 2));
  }
  std::vector<Tensor> inputs_;
};

TEST_P(EmbedLosses, AreThoseOfSentenceTransformers) {
  const Tensor loss = GetParam().loss(inputs_);
  EXPECT_NEAR(loss.item(), GetParam().expected, 1e-9 * GetParam().expected);
  backward(loss);
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const std::vector<double> gradient = values_of(inputs_[i].grad());
    EXPECT_NEAR(gradient[0], GetParam().gradients[2 * i], 1e-9);
    EXPECT_NEAR(gradient[1], GetParam().gradients[2 * i + 1], 1e-9);
  }
}

TEST_P(EmbedLosses, GradientsAreThoseOfFiniteDifferences) {
  backward(GetParam().loss(inputs_));
  constexpr double kStep = 1e-6;
  const NoGrad guard;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const std::vector<double> gradient = values_of(inputs_[i].grad());
    const std::vector<double> values = values_of(inputs_[i]);
    for (std::size_t at = 0; at < values.size(); ++at) {
      const auto moved = [&](double by) {
        std::vector<double> other = values;
        other[at] += by;
        std::vector<Tensor> inputs = inputs_;
        inputs[i] = Tensor::from_values(other, {3, 4});
        return GetParam().loss(inputs).item();
      };
      EXPECT_NEAR((moved(kStep) - moved(-kStep)) / (2 * kStep), gradient[at], 1e-7) << "input " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Losses, EmbedLosses,
    testing::Values(
        LossCase{"ranking",
                 [](const std::vector<Tensor>& in) { return ranking_loss(in[0], in[1], 20); },
                 false,
                 33.478345881953295,
                 {-0.3952165078838217, 0.6417992488959072, 0.8175328993126003, -0.034228457647324184}},
        LossCase{"ranking_with_negatives",
                 [](const std::vector<Tensor>& in) {
                   return ranking_loss(in[0], concat({in[1], in[2]}, 0), 20);
                 },
                 true,
                 33.48705188483532,
                 {-0.39529367269661275, 0.6419664851523077, 0.7555782918482317, -0.03163454288324097,
                  -0.00031890719861518517, 9.671609579844814e-05}},
        LossCase{"cosent",
                 [](const std::vector<Tensor>& in) { return cosent_loss(in[0], in[1], kScores, 20); },
                 false,
                 2.0229060127402803,
                 {1.093257956711045, -1.7753614068997439, 2.4696971575309474, -0.10340125104364706}},
        LossCase{"cosine",
                 [](const std::vector<Tensor>& in) { return cosine_loss(in[0], in[1], kScores); },
                 false,
                 1.98760296159778,
                 {-0.07640423161556179, 0.12407421624643117, -0.17259907644483072, 0.007226376067588691}}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

TEST(EmbedLosses, RefuseWhatDoesNotFit) {
  const Tensor a = Tensor::empty({3, 4});
  EXPECT_EQ(
      error_of<InvalidArgument>([&] {
        ranking_loss(a, Tensor::empty({2, 4}));
      }),
      "ranking_loss: anchors must be [B, D] and candidates [M, D] with M >= B >= 1; got [3, 4] and [2, 4]");
  EXPECT_EQ(error_of<InvalidArgument>([&] { cosine_loss(a, a, std::vector<float>{1}); }),
            "cosine_loss: scores must be [3]; got [1]");
  EXPECT_EQ(error_of<InvalidArgument>([] { parse_embed_loss("triplet"); }),
            "loss must be ranking, cosent or cosine; got triplet");
}

/// Rows of ids for the golden bert, of several lengths.
TokenTable table_of(std::int64_t rows, std::int64_t columns, bool scores) {
  TokenTable table;
  table.columns = columns;
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    std::vector<TokenId> ids;
    for (std::int64_t t = 0; t <= i % 5; ++t) ids.push_back(static_cast<TokenId>(3 + (7 * i + 3 * t) % 90));
    table.texts.ids.push_back(ids);
    table.texts.skipped.push_back(0);
    table.names.push_back(static_cast<std::int32_t>(i));
  }
  for (std::int64_t i = 0; scores && i < rows; ++i)
    table.scores.push_back(0.125F * static_cast<float>(i % 8));
  return table;
}

class GradientCaching : public testing::TestWithParam<EmbedLoss> {
 protected:
  GradientCaching() : embedder_(Embedder::load(test::golden_folder() / "bert")) {
    LoraConfig config;
    config.rank = 4;
    config.dropout = 0.25;
    Lora lora = Lora::attach(embedder_.model(), config, 5);
    for (const NamedTensor& parameter : lora.parameters()) parameters_.push_back(parameter.tensor);
    const NoGrad guard;
    // B away from 0, so that A has gradients too.
    for (std::size_t i = 1; i < parameters_.size(); i += 2) {
      std::vector<float> values(static_cast<std::size_t>(parameters_[i].numel()));
      for (std::size_t k = 0; k < values.size(); ++k) values[k] = 0.02F * static_cast<float>(std::sin(k + i));
      copy_(parameters_[i].detach(), Tensor::from_values(values, parameters_[i].shape()));
    }
  }

  /// Loss and all gradients of one step of 12 rows in passes of `batch_tokens`.
  std::pair<double, std::vector<double>> step(std::int64_t batch_tokens, std::size_t& passes,
                                              Checkpointing checkpointing = Checkpointing::None) {
    const bool ranking = GetParam() == EmbedLoss::Ranking;
    const TokenTable table = table_of(12, ranking ? 3 : 2, !ranking);
    TrainOptions train;
    train.batch_size = 12;
    TextSourceOptions options;
    options.batch_tokens = batch_tokens;
    TextSource source(
        table,
        [&](std::span<const std::int64_t> ids) { return embedder_.model().backbone().positions_of(ids); },
        train, options);
    std::vector<Batch> batches;
    for (const HostBatch& batch : source.next()) batches.push_back(batch.upload(Device::cpu()));
    passes = batches.size();
    const EmbedObjective objective(embedder_.config(), {GetParam(), 20});
    for (Tensor& parameter : parameters_) {
      if (parameter.grad().defined()) fill_(parameter.grad(), 0);
    }
    Generator dropout(3);
    const double loss = objective.accumulate(embedder_.model(), batches, 0.5, dropout, checkpointing).item();
    std::vector<double> gradients;
    for (const Tensor& parameter : parameters_) {
      const std::vector<double> values = values_of(parameter.grad());
      gradients.insert(gradients.end(), values.begin(), values.end());
    }
    offset_ = dropout.offset();
    return {loss, gradients};
  }

  Embedder embedder_;
  std::vector<Tensor> parameters_;
  std::uint64_t offset_ = 0;
};

TEST_P(GradientCaching, GivesTheGradientsOfOnePass) {
  // Dropout masks depend on how texts are packed: compared without it.
  for (Linear& layer : embedder_.model().linears()) layer.adapter.dropout = 0;
  std::size_t passes = 0;
  const auto whole = step(1 << 20, passes);
  ASSERT_EQ(passes, 1U);
  const auto cached = step(16, passes);
  ASSERT_GT(passes, 3U);
  EXPECT_NEAR(cached.first, whole.first, 1e-5 * std::abs(whole.first));
  EXPECT_LE(relative_error(cached.second, whole.second), 1e-5);
}

TEST_P(GradientCaching, DrawsTheSameMasksInBothPasses) {
  std::size_t passes = 0;
  const auto once = step(16, passes);
  const std::uint64_t drawn = offset_;
  const auto again = step(16, passes);
  EXPECT_EQ(once, again);
  EXPECT_GT(drawn, 0U);
  EXPECT_EQ(offset_, drawn);
  // Were the masks of the second pass others, a small step along the gradient would not change the loss by
  // it.
  const auto dot = [&](double by) {
    double squares = 0;
    for (double value : once.second) squares += value * value;
    const NoGrad guard;
    std::size_t at = 0;
    for (const Tensor& parameter : parameters_) {
      std::vector<float> values = parameter.to_vector<float>();
      for (float& value : values) value += static_cast<float>(by * once.second[at++]);
      copy_(parameter.detach(), Tensor::from_values(values, parameter.shape()));
    }
    return squares;
  };
  constexpr double kStep = 1e-3;
  const double squares = dot(kStep);
  const double up = step(16, passes).first;
  dot(-2 * kStep);
  const double down = step(16, passes).first;
  // accumulate() was given a share of 0.5.
  EXPECT_NEAR(0.5 * (up - down) / (2 * kStep), squares, 0.02 * squares);
}

TEST_P(GradientCaching, CheckpointingChangesNoBit) {
  std::size_t passes = 0;
  const auto kept = step(1 << 20, passes);
  EXPECT_EQ(step(1 << 20, passes, Checkpointing::Mlp), kept);
  EXPECT_EQ(step(1 << 20, passes, Checkpointing::Layer), kept);
}

INSTANTIATE_TEST_SUITE_P(Losses, GradientCaching,
                         testing::Values(EmbedLoss::Ranking, EmbedLoss::Cosent, EmbedLoss::Cosine),
                         [](const auto& param_info) { return std::string(to_string(param_info.param)); });

/// A trainer over the golden bert with adapters.
struct Training {
  Embedder embedder = Embedder::load(test::golden_folder() / "bert");
  TokenTable table = table_of(24, 2, false);
  TrainOptions options;
  std::optional<Lora> lora;

  Training() {
    LoraConfig config;
    config.dropout = 0.1;
    lora = Lora::attach(embedder.model(), config, 1);
    options.batch_size = 8;
    options.epochs = 4;
    options.adamw.lr = 5e-3;
    options.objective = std::make_shared<EmbedObjective>(embedder.config(), EmbedLossOptions{});
  }
  std::unique_ptr<TextSource> source(bool validation = false) {
    TextSourceOptions text;
    text.batch_tokens = 20;
    text.validation = validation;
    return std::make_unique<TextSource>(
        table,
        [this](std::span<const std::int64_t> ids) { return embedder.model().backbone().positions_of(ids); },
        options, text);
  }
  std::vector<double> adapters() const {
    std::vector<double> all;
    for (const NamedTensor& parameter : lora->parameters()) {
      const std::vector<double> values = values_of(parameter.tensor);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
};

TEST(EmbedderTraining, LowersTheLossAndGoesOnToTheSameBits) {
  Training whole;
  std::vector<double> losses;
  {
    Trainer trainer(whole.embedder.model(), whole.options);
    const auto source = whole.source();
    const auto valid = whole.source(true);
    ASSERT_TRUE(trainer.fit(*source, valid.get(), [&](const StepReport& report) {
      losses.push_back(report.loss);
      if (report.step == report.total_steps) {
        EXPECT_TRUE(report.validation_loss.has_value());
      }
    }));
  }
  ASSERT_EQ(losses.size(), 12U);
  EXPECT_LT(losses.back(), 0.8 * losses.front());

  Training parted;
  RunState state;
  std::vector<NamedTensor> moments;
  {
    Trainer trainer(parted.embedder.model(), parted.options);
    const auto source = parted.source();
    bool stop = false;
    TrainOptions stopping = parted.options;
    stopping.stop = [&] { return stop; };
    Trainer first(parted.embedder.model(), stopping);
    EXPECT_FALSE(first.fit(*source, nullptr, [&](const StepReport& report) { stop = report.step == 5; }));
    state = first.state();
    for (NamedTensor& moment : first.optimizer().moments())
      moments.push_back({moment.name, clone(moment.tensor)});
  }
  Trainer second(parted.embedder.model(), parted.options);
  second.optimizer().restore(moments, state.updates);
  second.restore(state);
  const auto source = parted.source();
  ASSERT_TRUE(second.fit(*source, nullptr, {}));
  EXPECT_EQ(parted.adapters(), whole.adapters());
}

TEST(EmbedderTraining, ThePlanHoldsEveryPassOfAStep) {
  Training run;
  const auto source = run.source();
  EXPECT_GT(source->planned_passes(), 2U);
  std::unique_ptr<Model> model;
  std::optional<Lora> lora;
  const auto prepare = [&]() -> Model& {
    LoadOptions options;
    options.device = Device::plan();
    options.backbone_only = true;
    model = load_model(test::golden_folder() / "bert", options);
    lora = Lora::attach(*model, {}, 1);
    return *model;
  };
  const MemoryPlan plan = plan_memory(prepare, run.options, *source, nullptr, Device::cpu());
  EXPECT_GT(plan.activations, 0U);
}

TEST(TextSource, DealsEveryRowOnceAndNoTextTwiceIntoAStep) {
  TokenTable table = table_of(9, 2, false);
  for (std::size_t row = 0; row < 3; ++row) table.names[2 * row] = 100;  // the same anchor three times
  TrainOptions train;
  train.batch_size = 3;
  const auto positions = [](std::span<const std::int64_t> ids) {
    return std::vector<std::int32_t>(ids.size());
  };
  TextSource source(table, positions, train, {});
  EXPECT_EQ(source.length().steps, 3);
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::multiset<std::int32_t> seen;
    for (int i = 0; i < 3; ++i) {
      const std::vector<HostBatch> step = source.next();
      ASSERT_EQ(step.size(), 1U);
      EXPECT_EQ(step[0].trained_tokens(), 3);
      int doubles = 0;
      for (std::int32_t text = 0; text < 6; text += 2) {
        const std::int32_t at = step[0].cu_seqlens[static_cast<std::size_t>(text)];
        const std::int32_t id = step[0].ids[static_cast<std::size_t>(at)];
        seen.insert(id);
        for (std::size_t row = 0; row < 3; ++row) doubles += table.texts.ids[2 * row][0] == id ? 1 : 0;
      }
      EXPECT_EQ(doubles, 1);
    }
    EXPECT_EQ(seen.size(), 9U);
    EXPECT_EQ(std::set<std::int32_t>(seen.begin(), seen.end()).size(), 9U);
  }
  train.accumulation = 2;
  EXPECT_EQ(error_of<InvalidArgument>([&] { TextSource(table, positions, train, {}); }),
            "train: accumulation must be 1 for embeddings: the loss sees all texts of a step; got 2");
}

}  // namespace
}  // namespace candela
