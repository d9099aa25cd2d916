#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <candela/core/random.h>
#include <candela/io/text_config.h>
#include <candela/io/tokenizer.h>

/// From logits to the next token, on the host.
namespace candela {

/// Applied in this order: repetition penalty, temperature, top_k, top_p, min_p.
struct SamplingOptions {
  /// divides the logits; 0: always the most likely token (greedy)
  double temperature = 0;
  /// keep the k most likely tokens; 0: all
  std::int64_t top_k = 0;
  /// keep the smallest set of most likely tokens whose probabilities reach this sum (Holtzman et al., 2020)
  double top_p = 1;
  /// keep tokens at least this share as likely as the most likely one
  double min_p = 0;
  double repetition_penalty =
      /// divides positive and multiplies negative logits of tokens seen before (Keskar et al., 2019)
      1;
};

/// What the model's generation_config.json asks for, with transformers' defaults: greedy unless do_sample is
/// set; then a temperature of 1 and the 50 most likely tokens where it does not say otherwise. The other
/// values are taken as they are written, for whoever sets a temperature: check_sampling() finds those that
/// are out of range.
SamplingOptions default_sampling(const TextConfig& config);

/// Range of a temperature above 0 and of repetition_penalty. Beyond it, logits of any model differ by nothing
/// or by everything.
inline constexpr double kSmallestSamplingScale = 1e-6;
inline constexpr double kLargestSamplingScale = 1e6;

/// Throws InvalidArgument naming the option that is out of range.
void check_sampling(const SamplingOptions& options);

struct Candidate {
  TokenId id = 0;
  double probability = 0;
};

/// The tokens that `options` leave to choose from, most likely first (the lower id first among equals), their
/// probabilities summing to 1. `seen` holds the prompt and what was generated. Throws InvalidArgument if a
/// logit is NaN or +inf, or none is finite.
std::vector<Candidate> candidates(std::span<const float> logits, const SamplingOptions& options,
                                  std::span<const TokenId> seen);

/// Draws the next token. Greedy choices take no random number.
TokenId sample(std::span<const float> logits, const SamplingOptions& options, std::span<const TokenId> seen,
               Generator& generator);

/// log softmax(logits)[id].
double log_probability(std::span<const float> logits, TokenId id);

/// The `count` most likely tokens and their log-probabilities, most likely first.
std::vector<std::pair<TokenId, double>> top_log_probabilities(std::span<const float> logits,
                                                              std::int64_t count);

}  // namespace candela
