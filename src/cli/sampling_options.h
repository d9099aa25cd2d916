#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string_view>

#include <candela/generate/sampling.h>
#include <candela/models/config.h>

namespace candela::cli {

/// Where a value is not given, generation_config.json's is taken.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> top_k;
};

/// Declares --temperature, --top-k, --top-p, --min-p, --repetition-penalty and --seed.
void declare_sampling_options(CLI::App& command, SamplingFlags& sampling, std::uint64_t& seed);

/// What is drawn by; UsageError for flags without effect.
SamplingOptions resolve_sampling(const SamplingFlags& flags, const ModelConfig& config);

}  // namespace candela::cli
