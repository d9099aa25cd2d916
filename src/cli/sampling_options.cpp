#include "cli/sampling_options.h"

#include <fmt/format.h>

#include "cli/options.h"
#include "cli/usage.h"

namespace candela::cli {

void declare_sampling_options(CLI::App& command, SamplingFlags& sampling, std::uint64_t& seed) {
  add_number(command, "--temperature", sampling.temperature, {0, kLargestSamplingScale},
             "0: always the most likely token; higher: more varied");
  add_number(command, "--top-k", sampling.top_k, {0, kMostCount},
             "Draw from the k most likely tokens only; 0: all");
  add_number(command, "--top-p", sampling.top_p, {0, 1, true},
             "Draw from the most likely tokens whose probabilities reach this sum");
  add_number(command, "--min-p", sampling.min_p, {0, 1},
             "Drop tokens less likely than this share of the most likely one");
  add_number(command, "--repetition-penalty", sampling.repetition_penalty,
             {kSmallestSamplingScale, kLargestSamplingScale}, "Above 1: discourage tokens seen before");
  add_number(command, "--seed", seed, {0, 9.2e18}, "Seed of the draws");
}

namespace {

/// What the command line alone gives; UsageError for a value out of range.
void check_flags(const SamplingFlags& flags) {
  SamplingOptions given;
  given.temperature = flags.temperature.value_or(given.temperature);
  given.repetition_penalty = flags.repetition_penalty.value_or(given.repetition_penalty);
  try {
    check_sampling(given);
  } catch (const InvalidArgument& error) {
    throw UsageError(fmt::format("--temperature, --repetition-penalty: {}", error.what()));
  }
}

}  // namespace

SamplingOptions resolve_sampling(const SamplingFlags& flags, const ModelConfig& config) {
  check_flags(flags);
  SamplingOptions result = default_sampling(config);
  result.temperature = flags.temperature.value_or(result.temperature);
  result.top_k = flags.top_k.value_or(result.top_k);
  result.top_p = flags.top_p.value_or(result.top_p);
  result.min_p = flags.min_p.value_or(result.min_p);
  result.repetition_penalty = flags.repetition_penalty.value_or(result.repetition_penalty);
  require<UsageError>(result.temperature > 0 || !(flags.top_k || flags.top_p || flags.min_p),
                      "--top-k, --top-p, --min-p: have no effect on greedy choices; give --temperature too");
  if (result.temperature == 0) {  // greedy choices use none of these
    const SamplingOptions unused;
    result.top_k = unused.top_k;
    result.top_p = unused.top_p;
    result.min_p = unused.min_p;
  }
  try {
    check_sampling(result);
  } catch (const InvalidArgument& error) {  // the flags are in range
    throw IoError(fmt::format("{}: {}", config.generation_source, error.what()));
  }
  return result;
}

}  // namespace candela::cli
