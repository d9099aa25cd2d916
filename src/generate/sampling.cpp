#include <algorithm>
#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/generate/sampling.h>

namespace candela {
namespace {

struct Scored {
  TokenId id;
  double logit;
};

bool likelier(const Scored& a, const Scored& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

void check_logits(std::span<const float> logits) {
  require(!logits.empty(), "sample: there are no logits");
  bool finite = false;
  for (const float logit : logits) {
    // Which sign a NaN has is chance.
    require(!std::isnan(logit) && logit != std::numeric_limits<float>::infinity(),
            "sample: every logit must be finite or -inf; got {}: the model's weights or adapter are broken",
            std::isnan(logit) ? "nan" : "inf");
    finite = finite || std::isfinite(logit);
  }
  require(finite,
          "sample: at least one logit must be finite; got none: the model's weights or adapter are broken");
}

std::vector<Scored> penalized(std::span<const float> logits, double penalty, std::span<const TokenId> seen) {
  std::vector<Scored> scores;
  scores.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) scores.push_back({static_cast<TokenId>(i), logits[i]});
  if (penalty == 1) return scores;
  for (const TokenId id : seen) {
    if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) continue;
    const double logit =
        logits[static_cast<std::size_t>(id)];  // the original: a token seen twice is punished once
    scores[static_cast<std::size_t>(id)].logit = logit > 0 ? logit / penalty : logit * penalty;
  }
  return scores;
}

/// The sum of exp(logit - top).
double partition(const std::vector<Scored>& scores, double top) {
  double sum = 0;
  for (const Scored& score : scores) sum += std::exp(score.logit - top);
  return sum;
}

/// Moves the `count` likeliest to the front, in order.
void order_front(std::vector<Scored>& scores, std::size_t count) {
  count = std::min(count, scores.size());
  std::partial_sort(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(count), scores.end(),
                    likelier);
}

/// The number of likeliest tokens whose probabilities reach `p`; orders that many. A vocabulary is large and
/// the set mostly small: it is sorted only as far as needed.
std::size_t nucleus(std::vector<Scored>& scores, double p, double top) {
  const double goal = p * partition(scores, top);
  for (std::size_t ordered = 256;; ordered *= 8) {
    order_front(scores, ordered);
    double sum = 0;
    for (std::size_t i = 0; i < std::min(ordered, scores.size()); ++i) {
      sum += std::exp(scores[i].logit - top);
      if (sum >= goal) return i + 1;
    }
    if (ordered >= scores.size()) return scores.size();
  }
}

}  // namespace

SamplingOptions default_sampling(const TextConfig& config) {
  const bool sample = config.do_sample.value_or(false);
  SamplingOptions options;
  options.temperature = sample ? config.temperature.value_or(1) : 0;
  options.top_k = config.top_k.value_or(sample ? 50 : 0);
  options.top_p = config.top_p.value_or(1);
  options.min_p = config.min_p.value_or(0);
  options.repetition_penalty = config.repetition_penalty.value_or(1);
  return options;
}

void check_sampling(const SamplingOptions& options) {
  // Written so that NaN is outside every range.
  const auto scales = [](double value) {
    return value >= kSmallestSamplingScale && value <= kLargestSamplingScale;
  };
  require(options.temperature == 0 || scales(options.temperature),
          "sampling: temperature must be 0 or in [{}, {}]; got {}", kSmallestSamplingScale,
          kLargestSamplingScale, options.temperature);
  require(options.top_k >= 0, "sampling: top_k must be 0 (all) or more; got {}", options.top_k);
  require(options.top_p > 0 && options.top_p <= 1, "sampling: top_p must be in (0, 1]; got {}",
          options.top_p);
  require(options.min_p >= 0 && options.min_p <= 1, "sampling: min_p must be in [0, 1]; got {}",
          options.min_p);
  require(scales(options.repetition_penalty), "sampling: repetition_penalty must be in [{}, {}]; got {}",
          kSmallestSamplingScale, kLargestSamplingScale, options.repetition_penalty);
}

namespace {

double max_logit(const std::vector<Scored>& scores) {
  return std::min_element(scores.begin(), scores.end(), likelier)->logit;
}

/// The tokens that all filters leave, in no particular order, their logits as differences to the largest one,
/// divided by the temperature (> 0). Never empty: the likeliest token, at 0, passes every filter.
std::vector<Scored> filtered(std::span<const float> logits, const SamplingOptions& options,
                             std::span<const TokenId> seen) {
  std::vector<Scored> scores = penalized(logits, options.repetition_penalty, seen);
  // Subtracted before the division: a quotient may overflow, and inf - inf is NaN.
  const double max = max_logit(scores);
  for (Scored& score : scores) score.logit = (score.logit - max) / options.temperature;
  if (options.top_k > 0 && static_cast<std::size_t>(options.top_k) < scores.size()) {
    order_front(scores, static_cast<std::size_t>(options.top_k));
    scores.resize(static_cast<std::size_t>(options.top_k));
  }
  if (options.top_p < 1) scores.resize(nucleus(scores, options.top_p, 0));
  std::erase_if(scores, [&](const Scored& score) {
    return score.logit == -std::numeric_limits<double>::infinity() ||
           (options.min_p > 0 && std::exp(score.logit) < options.min_p);
  });
  return scores;
}

TokenId most_likely(std::span<const float> logits, const SamplingOptions& options,
                    std::span<const TokenId> seen) {
  const std::vector<Scored> scores = penalized(logits, options.repetition_penalty, seen);
  return std::min_element(scores.begin(), scores.end(), likelier)->id;
}

}  // namespace

std::vector<Candidate> candidates(std::span<const float> logits, const SamplingOptions& options,
                                  std::span<const TokenId> seen) {
  check_sampling(options);
  check_logits(logits);
  if (options.temperature == 0) return {{most_likely(logits, options, seen), 1.0}};
  std::vector<Scored> scores = filtered(logits, options, seen);
  std::sort(scores.begin(), scores.end(), likelier);
  const double total = partition(scores, 0);
  std::vector<Candidate> result;
  result.reserve(scores.size());
  for (const Scored& score : scores) result.push_back({score.id, std::exp(score.logit) / total});
  return result;
}

TokenId sample(std::span<const float> logits, const SamplingOptions& options, std::span<const TokenId> seen,
               Generator& generator) {
  check_sampling(options);
  check_logits(logits);
  if (options.temperature == 0) return most_likely(logits, options, seen);
  const std::vector<Scored> scores = filtered(logits, options, seen);
  double rest = generator.next_uniform() * partition(scores, 0);
  for (const Scored& score : scores) {
    rest -= std::exp(score.logit);
    if (rest < 0) return score.id;
  }
  return scores.back().id;  // rounding left a little over
}

double log_probability(std::span<const float> logits, TokenId id) {
  require(id >= 0 && static_cast<std::size_t>(id) < logits.size(),
          "log_probability: id must be in [0, {}); got {}", logits.size(), id);
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  return logits[static_cast<std::size_t>(id)] - top - std::log(sum);
}

std::vector<std::pair<TokenId, double>> top_log_probabilities(std::span<const float> logits,
                                                              std::int64_t count) {
  std::vector<Scored> scores = penalized(logits, 1, {});
  const auto kept = std::min(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)), scores.size());
  if (kept == 0) return {};
  order_front(scores, kept);
  const double top = scores.front().logit;
  const double log_total = std::log(partition(scores, top));
  std::vector<std::pair<TokenId, double>> result;
  for (std::size_t i = 0; i < kept; ++i) result.emplace_back(scores[i].id, scores[i].logit - top - log_total);
  return result;
}

}  // namespace candela
