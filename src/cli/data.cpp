#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <memory>
#include <unistd.h>

#include <candela/lora/lora.h>
#include <candela/train/trainer.h>

#include "cli/batch_report.h"
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
  ModelOptions model;
  std::vector<std::string> data;
  RowOptions rows;
  std::int64_t batch_size = 8;
  std::int64_t show = 1;
  /// seconds; 0: not at all
  double measure = 0;
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

/// Training steps on both kinds of batches in turn, each on a new adapter of rank 16.
void print_speed(const CheckOptions& options, const TrainOptions& rows, const TrainOptions& packs,
                 const std::vector<Sample>& samples) {
  struct Kind {
    std::unique_ptr<Model> model;
    std::unique_ptr<Trainer> trainer;
    std::unique_ptr<SampleSource> source;
    double tokens = 0, seconds = 0;

    double step() {
      const std::vector<HostBatch> batches = source->next();
      const auto begin = std::chrono::steady_clock::now();
      trainer->enqueue(batches, 1e-4);
      trainer->finish();
      const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      for (const HostBatch& batch : batches) tokens += static_cast<double>(batch.tokens);
      seconds += took;
      return took;
    }
  };
  set_up_compute(options.model);
  const auto made = [&](const TrainOptions& train) {
    Kind kind;
    kind.model = load_model(options.model.model,
                            load_options(options.model, true, parse_device(options.model.device)));
    LoraConfig lora;
    lora.rank = 16;
    Lora::attach(*kind.model, lora);
    kind.trainer = std::make_unique<Trainer>(*kind.model, train);
    kind.source = std::make_unique<SampleSource>(samples, train);
    kind.step();  // the first one touches the weights and fills the caches
    kind.tokens = kind.seconds = 0;
    return kind;
  };
  Kind of_rows = made(rows);
  Kind of_packs = made(packs);
  // The one that is behind in time goes on, so that both meet the same disturbances.
  while (of_rows.seconds + of_packs.seconds < options.measure || of_packs.seconds == 0)
    (of_rows.seconds <= of_packs.seconds ? of_rows : of_packs).step();
  const double by_rows = of_rows.tokens / of_rows.seconds;
  const double by_packs = of_packs.tokens / of_packs.seconds;
  print_out("speed       {} tok/s in rows, {} tok/s in packs ({:.2f} x): LoRA of rank 16 on {} in {}\n",
            format_count(std::llround(by_rows)), format_count(std::llround(by_packs)), by_packs / by_rows,
            options.model.device, to_string(of_rows.model->dtype()));
}

/// The steps and the padding of an epoch of rows of like length, and of packs.
void print_batches(const CheckOptions& options, const ModelConfig& config, const Dataset& data) {
  TrainOptions rows;
  rows.batch_size = options.batch_size;
  rows.pad_id = static_cast<std::int32_t>(config.pad_token_id.value_or(0));
  const std::int64_t pack_length =
      usual_pack_length(options.rows.max_length, config, data.statistics.longest);
  const TrainOptions packs = packed_options(rows, pack_length, data.statistics);
  print_out("epoch       {} in batches of like length\n", describe_batches(rows, data.samples));
  print_out("            {} with --packing: packs are {:.1f} % full\n", describe_batches(packs, data.samples),
            100 * pack_fill(data.samples, pack_length));
  if (options.measure > 0) print_speed(options, rows, packs, data.samples);
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
  const ModelConfig config = ModelConfig::load(options.model.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model.model);
  DatasetOptions rows = dataset_options(options.rows, tokenizer, config, options.model.model);
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
  print_batches(options, config, data);
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
  declare_base_model(*command, options->model);
  add_data_list(*command, options->data)->required();
  declare_row_options(*command, options->rows);
  add_number(*command, "--batch-size", options->batch_size, {1, kMostCount},
             "Rows of a batch, and of as many packs as hold them: for steps, padding and speed");
  add_number(*command, "--measure", options->measure, {0, 3600},
             "Seconds of training steps to measure the tokens/s of rows and of packs with; 0: none");
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
