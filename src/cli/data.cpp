#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
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
  std::string model;
  std::vector<std::string> data;
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

/// The rows that each of several files gives.
void print_files(const Dataset& data, const std::vector<DataFile>& files) {
  if (files.size() < 2) return;
  std::vector<std::size_t> rows(files.size(), 0);
  for (const Sample& sample : data.samples) ++rows[sample.source];
  for (std::size_t i = 0; i < files.size(); ++i)
    print_out("            {}: {} rows{}\n", escaped_name(files[i].path.string()), counted(rows[i]),
              files[i].weight == 1 ? "" : fmt::format(" at weight {}", files[i].weight));
}

/// IoError for rows that finetune would refuse, and for those of which truncation leaves nothing to train on.
void refuse_useless(const Dataset& data, bool may_skip) {
  const BadRows& bad = data.bad_rows;
  std::string text;
  if (bad.count > 0) {
    text += fmt::format("{} row{} cannot be trained on:\n  {}", bad.count, bad.count == 1 ? "" : "s",
                        fmt::join(bad.texts, "\n  "));
    if (bad.count > bad.texts.size()) text += fmt::format("\n  and {} more", bad.count - bad.texts.size());
  }
  const std::size_t dropped = data.statistics.dropped_rows;
  if (dropped > 0 && !may_skip) {
    text += fmt::format(
        "{}{} row{} would train on nothing: --max-length cuts off the answer; raise it, or leave such rows "
        "out "
        "(--skip-untrained)",
        text.empty() ? "" : "\n", dropped, dropped == 1 ? "" : "s");
  }
  require<IoError>(text.empty(), "{}: {}", data.name(), text);
}

void check(const CheckOptions& options) {
  const ModelConfig config = ModelConfig::load(options.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  DatasetOptions rows = dataset_options(options.rows, tokenizer, config, options.model);
  rows.keep_going = true;
  const std::vector<DataFile> files = DatasetFiles::find(options.data).train;
  const Dataset data = Dataset::load(files, tokenizer, rows);
  const DatasetStatistics& statistics = data.statistics;
  print_out("data        {}: {} rows as {}\n", escaped_name(data.name()), counted(statistics.rows),
            to_string(data.format));
  print_files(data, files);
  print_out("template    {}\n", rows.chat_template ? escaped_name(rows.chat_template->name())
                                                   : "none: chats are written as ChatML");
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
    print_out("\n{}, {}:\n{}\n", escaped_name(data.where(data.samples[i])),
              colour ? "trained in green" : "trained in ⟦ ⟧",
              marked_text(data.samples[i], tokenizer, colour));
  }
  flush_output();
  refuse_useless(data, options.rows.skip_untrained);
}

}  // namespace

void add_data(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("data", "Look at training data");
  group->require_subcommand(1);
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = group->add_subcommand(
      "check",
      "Read a data set as training would, and tell of its rows, lengths, padding and trained tokens");
  add_path(*command, "--model", options->model,
           "Folder of the model that is to be trained, or its name on the Hub")
      ->required();
  add_data_list(*command, options->data)->required();
  declare_row_options(*command, options->rows);
  add_number(*command, "--batch-size", options->batch_size, {1, kMostCount},
             "Rows of a batch, for the share of padding");
  add_number(*command, "--show", options->show, {0, kMostCount},
             "How many rows to print as training sees them");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "The status is 1 where a row cannot be read, is too long, or has no token to train on; such rows are "
      "named by file and line, the first 20 of them.\n"
      "Example:\n  candela data check --model models/stories-7m --data data/text-to-sql");
  command->callback([&action, options] { action = [options] { check(*options); }; });
}

}  // namespace candela::cli
