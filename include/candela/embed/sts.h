#pragma once

#include <cstdint>
#include <span>

#include <candela/embed/embedder.h>
#include <candela/embed/text_rows.h>

namespace candela {

/// Pearson's correlation of x and y [N], N >= 2; NaN where one of them is constant.
double pearson(std::span<const double> x, std::span<const double> y);
/// Spearman's: Pearson's of their ranks, equal values sharing the mean of theirs.
double spearman(std::span<const double> x, std::span<const double> y);

/// How well similarities follow scores.
struct StsResult {
  std::int64_t pairs = 0;
  double pearson = 0;
  double spearman = 0;
  /// texts longer than max_tokens
  std::int64_t cut = 0;
};

/// Compares the similarity (EmbedderConfig::similarity) of each pair with its score. InvalidArgument unless
/// the table has scores, 2 columns and at least 2 rows; else as Embedder::embed.
StsResult evaluate_sts(const Embedder& embedder, const TextTable& pairs, const EmbedOptions& options = {});

}  // namespace candela
