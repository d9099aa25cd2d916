#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>

#include <candela/core/error.h>
#include <candela/generate/sampling.h>
#include <candela/models/config.h>

namespace candela {
namespace {

/// Logits whose softmax is `probabilities`.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<TokenId> ids_of(const std::vector<Candidate>& choices) {
  std::vector<TokenId> ids;
  for (const Candidate& choice : choices) ids.push_back(choice.id);
  return ids;
}

const std::vector<double> kKnown = {0.1, 0.4, 0.05, 0.25, 0.2};

TEST(Sampling, GreedyTakesTheLikeliestAndTheLowerIdAmongEquals) {
  Generator generator(1);
  EXPECT_EQ(sample(logits_of(kKnown), {}, {}, generator), 1);
  EXPECT_EQ(sample(std::vector<float>{1, 3, 3, 2}, {}, {}, generator), 1);
  EXPECT_EQ(generator.offset(), 0U);
}

TEST(Sampling, PlainCandidatesAreTheSoftmaxInOrder) {
  const std::vector<Candidate> choices = candidates(logits_of(kKnown), {.temperature = 1}, {});
  EXPECT_EQ(ids_of(choices), (std::vector<TokenId>{1, 3, 4, 0, 2}));
  for (const Candidate& choice : choices) {
    EXPECT_NEAR(choice.probability, kKnown[static_cast<std::size_t>(choice.id)], 1e-6);
  }
}

TEST(Sampling, TemperatureSharpensAndFlattens) {
  // At temperature 1/2, probabilities go as their squares.
  const std::vector<Candidate> sharp = candidates(logits_of({0.8, 0.2}), {.temperature = 0.5}, {});
  EXPECT_NEAR(sharp[0].probability, 0.64 / 0.68, 1e-6);
  const std::vector<Candidate> flat = candidates(logits_of({0.8, 0.2}), {.temperature = 2}, {});
  EXPECT_NEAR(flat[0].probability, 2.0 / 3.0, 1e-6);
}

TEST(Sampling, TopKKeepsKAndRenormalises) {
  const std::vector<Candidate> choices = candidates(logits_of(kKnown), {.temperature = 1, .top_k = 2}, {});
  EXPECT_EQ(ids_of(choices), (std::vector<TokenId>{1, 3}));
  EXPECT_NEAR(choices[0].probability, 0.4 / 0.65, 1e-6);
  EXPECT_EQ(candidates(logits_of(kKnown), {.temperature = 1, .top_k = 99}, {}).size(), 5U);
}

TEST(Sampling, TopPKeepsTheSmallestSetThatReachesIt) {
  const auto kept = [](double p) {
    return ids_of(candidates(logits_of(kKnown), {.temperature = 1, .top_p = p}, {}));
  };
  EXPECT_EQ(kept(0.39), (std::vector<TokenId>{1}));
  EXPECT_EQ(kept(0.41), (std::vector<TokenId>{1, 3}));
  EXPECT_EQ(kept(0.64), (std::vector<TokenId>{1, 3}));
  EXPECT_EQ(kept(0.84), (std::vector<TokenId>{1, 3, 4}));
  EXPECT_EQ(kept(1e-9), (std::vector<TokenId>{1}));
  EXPECT_EQ(kept(1), (std::vector<TokenId>{1, 3, 4, 0, 2}));
}

TEST(Sampling, MinPIsAShareOfTheLikeliest) {
  EXPECT_EQ(ids_of(candidates(logits_of(kKnown), {.temperature = 1, .min_p = 0.49}, {})),
            (std::vector<TokenId>{1, 3, 4}));
  EXPECT_EQ(ids_of(candidates(logits_of(kKnown), {.temperature = 1, .min_p = 1}, {})),
            (std::vector<TokenId>{1}));
}

TEST(Sampling, RepetitionPenaltyPunishesSeenTokensOnce) {
  const std::vector<float> logits = {2, 1, -1};
  const std::vector<TokenId> seen = {0, 0, 2};
  const std::vector<Candidate> choices =
      candidates(logits, {.temperature = 1, .repetition_penalty = 4}, seen);
  // Logits become 0.5, 1, -4.
  EXPECT_EQ(ids_of(choices), (std::vector<TokenId>{1, 0, 2}));
  const double total = std::exp(0.5) + std::exp(1.0) + std::exp(-4.0);
  EXPECT_NEAR(choices[0].probability, std::exp(1.0) / total, 1e-9);
  EXPECT_NEAR(choices[2].probability, std::exp(-4.0) / total, 1e-9);
  Generator generator;
  EXPECT_EQ(sample(logits, {.repetition_penalty = 4}, seen, generator), 1);
}

TEST(Sampling, FrequenciesFollowTheProbabilities) {
  const std::vector<float> logits = logits_of(kKnown);
  Generator generator(7);
  constexpr int kDraws = 40000;
  std::vector<int> counts(kKnown.size());
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<std::size_t>(sample(logits, {.temperature = 1}, {}, generator))];
  double chi_square = 0;
  for (std::size_t i = 0; i < kKnown.size(); ++i) {
    const double expected = kDraws * kKnown[i];
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi_square, 18.5);  // 4 degrees of freedom: exceeded by chance once in a thousand
}

TEST(Sampling, FilteredTokensAreNeverDrawn) {
  Generator generator(3);
  for (int i = 0; i < 2000; ++i) {
    const TokenId id = sample(logits_of(kKnown), {.temperature = 1, .top_k = 3, .top_p = 0.7}, {}, generator);
    EXPECT_TRUE(id == 1 || id == 3) << id;
  }
}

TEST(Sampling, ExcludedTokensMayBeMinusInfinity) {
  const float none = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(ids_of(candidates(std::vector<float>{none, 0, none}, {.temperature = 1}, {})),
            (std::vector<TokenId>{1}));
}

/// Where a quotient by the temperature, or a product with the penalty, would be beyond a double.
TEST(Sampling, ATokenIsLeftWhateverTheOptions) {
  const std::vector<float> negative = {-3e38F, -1, -2e38F, -5};
  const std::vector<TokenId> all = {0, 1, 2, 3};
  for (const double temperature : {kSmallestSamplingScale, 1.0, kLargestSamplingScale}) {
    for (const double penalty : {kSmallestSamplingScale, 1.0, kLargestSamplingScale}) {
      const SamplingOptions options{.temperature = temperature, .repetition_penalty = penalty};
      const std::vector<Candidate> choices = candidates(negative, options, all);
      ASSERT_FALSE(choices.empty());
      EXPECT_EQ(choices.front().id, 1);
      double total = 0;
      for (const Candidate& choice : choices) total += choice.probability;
      EXPECT_NEAR(total, 1, 1e-12);
      Generator generator(5);
      EXPECT_LT(sample(negative, options, all, generator), 4);
    }
  }
  for (const double beyond : {1e-310, 1e-308, 1e308, -1.0, std::nan("")}) {
    EXPECT_THROW(check_sampling({.temperature = beyond}), InvalidArgument) << beyond;
    EXPECT_THROW(check_sampling({.repetition_penalty = beyond}), InvalidArgument) << beyond;
  }
}

/// Differences far below the temperature's reach keep their order and never become NaN.
TEST(Sampling, ASmallTemperatureTakesTheLikeliest) {
  const std::vector<float> mixed = {1, 3e38F, -3e38F, 2.5e38F};
  Generator generator(5);
  EXPECT_EQ(sample(mixed, {.temperature = kSmallestSamplingScale}, {}, generator), 1);
}

TEST(Sampling, BrokenLogitsAndOptionsAreRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  Generator generator;
  EXPECT_THROW(sample(std::vector<float>{0, nan}, {}, {}, generator), InvalidArgument);
  for (const float bad : {nan, -nan}) {
    try {
      sample(std::vector<float>{0, bad}, {}, {}, generator);
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("got nan"), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(sample(std::vector<float>{0, inf}, {}, {}, generator), InvalidArgument);
  EXPECT_THROW(sample(std::vector<float>{-inf, -inf}, {}, {}, generator), InvalidArgument);
  EXPECT_THROW(sample(std::vector<float>{}, {}, {}, generator), InvalidArgument);
  EXPECT_THROW(check_sampling({.temperature = -1}), InvalidArgument);
  EXPECT_THROW(check_sampling({.top_k = -1}), InvalidArgument);
  EXPECT_THROW(check_sampling({.top_p = 0}), InvalidArgument);
  EXPECT_THROW(check_sampling({.min_p = 1.5}), InvalidArgument);
  EXPECT_THROW(check_sampling({.repetition_penalty = 0}), InvalidArgument);
}

TEST(Sampling, LogProbabilitiesAreThoseOfTheSoftmax) {
  EXPECT_NEAR(log_probability(logits_of(kKnown), 3), std::log(0.25), 1e-6);
  const auto top = top_log_probabilities(logits_of(kKnown), 2);
  ASSERT_EQ(top.size(), 2U);
  EXPECT_EQ(top[0].first, 1);
  EXPECT_NEAR(top[0].second, std::log(0.4), 1e-6);
  EXPECT_EQ(top[1].first, 3);
  EXPECT_TRUE(top_log_probabilities(logits_of(kKnown), 0).empty());
}

TEST(Sampling, DefaultsComeFromTheGenerationConfig) {
  ModelConfig config;
  EXPECT_EQ(default_sampling(config).temperature, 0);
  EXPECT_EQ(default_sampling(config).top_k, 0);
  EXPECT_EQ(default_sampling(config).top_p, 1);
  config.do_sample = true;
  EXPECT_EQ(default_sampling(config).temperature, 1);
  EXPECT_EQ(default_sampling(config).top_k, 50);
  config.temperature = 0.6;
  config.top_k = 20;
  config.top_p = 0.95;
  config.min_p = 0.1;
  config.repetition_penalty = 1.1;
  const SamplingOptions all = default_sampling(config);
  EXPECT_EQ(all.temperature, 0.6);
  EXPECT_EQ(all.top_k, 20);
  EXPECT_EQ(all.top_p, 0.95);
  EXPECT_EQ(all.min_p, 0.1);
  EXPECT_EQ(all.repetition_penalty, 1.1);
  config.do_sample = false;  // a temperature without do_sample is one that transformers would not use
  EXPECT_EQ(default_sampling(config).temperature, 0);
  EXPECT_EQ(default_sampling(config).repetition_penalty, 1.1);
}

}  // namespace
}  // namespace candela
