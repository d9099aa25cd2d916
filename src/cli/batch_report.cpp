#include "cli/batch_report.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <vector>

#include <candela/train/packing.h>

#include "cli/progress.h"

namespace candela::cli {

std::int64_t usual_pack_length(std::int64_t max_length, const ModelConfig& config, std::size_t longest) {
  const std::int64_t length =
      max_length > 0 ? max_length : std::min(config.max_position_embeddings, kUsualPack);
  return std::max(length, static_cast<std::int64_t>(longest));
}

TrainOptions packed_options(const TrainOptions& rows, std::int64_t pack_length,
                            const DatasetStatistics& statistics) {
  TrainOptions packs = rows;
  packs.pack_length = pack_length;
  const double mean = static_cast<double>(statistics.tokens - statistics.rows) /
                      static_cast<double>(std::max<std::size_t>(statistics.rows, 1));
  const double wanted = static_cast<double>(rows.batch_size) * mean / static_cast<double>(pack_length);
  packs.batch_size = std::max<std::int64_t>(1, std::llround(wanted));
  return packs;
}

std::string describe_steps(const TrainOptions& options, const TrainLength& length) {
  const std::string passes =
      options.accumulation > 1 ? fmt::format(" x {} passes", options.accumulation) : std::string();
  const std::string what = options.pack_length > 0
                               ? fmt::format("pack{} of {} tokens", options.batch_size > 1 ? "s" : "",
                                             format_count(options.pack_length))
                               : fmt::format("row{}", options.batch_size > 1 ? "s" : "");
  return fmt::format("{} of {} {}{}", length.steps, options.batch_size, what, passes);
}

std::string describe_batches(const TrainOptions& options, std::span<const Sample> samples) {
  const TrainLength length = SampleSource(samples, options).length();
  return fmt::format("{}, {:.1f} % padding", describe_steps(options, length), 100 * length.padding);
}

double pack_fill(std::span<const Sample> samples, std::int64_t pack_length) {
  std::vector<std::size_t> lengths;
  std::size_t tokens = 0;
  for (const Sample& sample : samples) {
    lengths.push_back(sample.ids.size() - 1);
    tokens += lengths.back();
  }
  const std::size_t packs = best_fit_packs(lengths, static_cast<std::size_t>(pack_length)).size();
  return packs == 0
             ? 0
             : static_cast<double>(tokens) / static_cast<double>(packs) / static_cast<double>(pack_length);
}

}  // namespace candela::cli
