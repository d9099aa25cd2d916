#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <numeric>
#include <unistd.h>

#include <candela/train/batch.h>
#include <candela/train/packing.h>

#include "cli/chat_commands.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/row_options.h"
#include "cli/sample_view.h"

namespace candela::cli {
namespace {

struct CheckOptions {
  std::string model, data;
  RowOptions rows;
  std::int64_t batch_size = 8;
  std::int64_t show = 1;
};

std::string counted(std::size_t count) {
  return format_count(static_cast<std::int64_t>(count));
}

void print_lengths(const DatasetStatistics& statistics) {
  std::size_t most = 1;
  for (const std::size_t rows : statistics.length_histogram) most = std::max(most, rows);
  for (std::size_t i = 0; i < statistics.length_histogram.size(); ++i) {
    const std::size_t rows = statistics.length_histogram[i];
    if (rows == 0) continue;
    constexpr std::size_t kWidth = 40;
    const std::size_t bar = std::max<std::size_t>(1, rows * kWidth / most);
    print_out("            {:>7} to {:<7} {:<40} {}\n", std::size_t{1} << i, (std::size_t{2} << i) - 1,
              std::string(bar, '#'), counted(rows));
  }
}

/// Share of the positions of all packs that no row fills.
double unfilled(const std::vector<Sample>& samples, std::size_t capacity) {
  std::vector<std::size_t> lengths;
  for (const Sample& sample : samples) lengths.push_back(sample.ids.size());
  const double tokens = static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::size_t{0}));
  const double positions = static_cast<double>(best_fit_packs(lengths, capacity).size() * capacity);
  return positions > 0 ? std::max(0.0, 1 - tokens / positions) : 0;
}

void check(const CheckOptions& options) {
  const ModelConfig config = ModelConfig::load(options.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const DatasetOptions rows = dataset_options(options.rows, tokenizer, config, options.model);
  const Dataset data = Dataset::load(DatasetFiles::find(options.data).train, tokenizer, rows);
  const DatasetStatistics& statistics = data.statistics;
  print_out("data        {}: {} rows as {}\n", data.file.string(), counted(statistics.rows),
            to_string(data.format));
  print_out("template    {}\n",
            rows.chat_template ? rows.chat_template->name() : "none: chats are written as ChatML");
  print_out("tokens      {}, {} of them trained ({:.1f} %)\n", counted(statistics.tokens),
            counted(statistics.trained_tokens), 100 * statistics.trained_share());
  print_out("lengths     {} to {}; rows by length:\n", statistics.shortest, statistics.longest);
  print_lengths(statistics);
  print_out("cut off     {} rows; left out: {} without their answer, {} without a token to train on\n",
            counted(statistics.truncated_rows), counted(statistics.dropped_rows),
            counted(statistics.untrained_rows));
  Generator generator(0);
  Positions positions;
  for (const auto& batch :
       bucketed_batches(data.samples, static_cast<std::size_t>(options.batch_size), generator))
    positions.add(data.samples, batch);
  const std::size_t capacity = std::max(rows.max_length, statistics.longest);
  print_out(
      "padding     {:.1f} % in batches of {} rows of like length; {:.1f} % of packs of {} tokens stay "
      "empty\n",
      100 * positions.padding_share(), options.batch_size, 100 * unfilled(data.samples, capacity), capacity);
  const bool colour = ::isatty(STDOUT_FILENO) != 0;
  for (std::size_t i = 0; i < data.samples.size() && static_cast<std::int64_t>(i) < options.show; ++i) {
    print_out("\n{}:{}, {}:\n{}\n", data.file.string(), data.samples[i].line,
              colour ? "trained in green" : "trained in ⟦ ⟧",
              marked_text(data.samples[i], tokenizer, colour));
  }
  flush_output();
}

}  // namespace

void add_data(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("data", "Look at training data");
  group->require_subcommand(1);
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = group->add_subcommand(
      "check",
      "Read a data set as training would, and tell of its rows, lengths, padding and trained tokens");
  add_path(*command, "--model", options->model, "Folder of the model that is to be trained")->required();
  add_path(*command, "--data", options->data, "JSONL file, or folder with train.jsonl")->required();
  declare_row_options(*command, options->rows);
  add_number(*command, "--batch-size", options->batch_size, {1, kMostCount},
             "Rows of a batch, for the share of padding");
  add_number(*command, "--show", options->show, {0, kMostCount},
             "How many rows to print as training sees them");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "The status is 1 where a row cannot be read, is too long, or has no token to train on; each such row "
      "is named.\n"
      "Example:\n  candela data check --model models/stories-7m --data data/text-to-sql");
  command->callback([&action, options] { action = [options] { check(*options); }; });
}

}  // namespace candela::cli
