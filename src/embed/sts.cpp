#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <candela/core/error.h>
#include <candela/embed/sts.h>
#include <candela/ops/copy.h>

namespace candela {
namespace {

/// From 1; equal values share the mean of their ranks.
std::vector<double> ranks_of(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first + 1;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    const double shared = static_cast<double>(first + 1 + last) / 2;
    for (std::size_t i = first; i < last; ++i) ranks[order[i]] = shared;
    first = last;
  }
  return ranks;
}

}  // namespace

double pearson(std::span<const double> x, std::span<const double> y) {
  require(x.size() == y.size() && x.size() >= 2,
          "pearson: x and y must have as many values, at least 2; got {} and {}", x.size(), y.size());
  const auto count = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / count;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / count;
  double xy = 0;
  double xx = 0;
  double yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  return xy / std::sqrt(xx * yy);
}

double spearman(std::span<const double> x, std::span<const double> y) {
  return pearson(ranks_of(x), ranks_of(y));
}

StsResult evaluate_sts(const Embedder& embedder, const TextTable& pairs, const EmbedOptions& options) {
  require(pairs.columns == 2 && pairs.scored() && pairs.rows() >= 2,
          "{}: must hold at least 2 pairs of texts with scores; got {} rows of {} texts {} scores",
          pairs.file, pairs.rows(), pairs.columns, pairs.scored() ? "with" : "without");
  StsResult result;
  const Tensor embeddings = embedder.embed(pairs.texts, options, &result.cut);
  result.pairs = pairs.rows();
  std::vector<double> alike;
  for (std::int64_t row = 0; row < result.pairs; ++row) {
    const Tensor a = slice(embeddings, 0, 2 * row, 2 * row + 1);
    const Tensor b = slice(embeddings, 0, 2 * row + 1, 2 * row + 2);
    alike.push_back(embedder.similarity(a, b).item());
  }
  const std::vector<double> scores(pairs.scores.begin(), pairs.scores.end());
  result.pearson = pearson(alike, scores);
  result.spearman = spearman(alike, scores);
  return result;
}

}  // namespace candela
