#include <algorithm>
#include <filesystem>
#include <memory>

#include <candela/lora/lora.h>

#include "cli/batch_report.h"
#include "cli/chat_record.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/finetune_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resume.h"
#include "cli/run_files.h"
#include "cli/run_loop.h"
#include "cli/run_setup.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

/// How many rows are left out, and why.
std::string left_out(const DatasetStatistics& rows) {
  std::string text;
  if (rows.dropped_rows > 0)
    text += fmt::format(", {} left out (--max-length cuts off their answer)", rows.dropped_rows);
  if (rows.untrained_rows > 0)
    text += fmt::format(", {} left out (no token of theirs is trained)", rows.untrained_rows);
  return text;
}

void print_plan(RunSetup& setup, const RunSetup::Planned& planned) {
  const FinetuneOptions& options = setup.options();
  const RunData& data = setup.data();
  const Model& shape = *planned.model;
  const LoraConfig& lora = planned.lora->config();
  const std::int64_t trainable = planned.lora->parameter_count();
  const TrainLength length = setup.sources().train.length();
  const MemoryPlan& plan = planned.memory;
  const std::int64_t total = shape.parameter_count();
  print_out("model       {} ({}, {} parameters, {} on {})\n", options.model.model, shape.config().model_type,
            format_count(total), to_string(shape.dtype()), parse_device(options.model.device));
  print_out("adapter     LoRA, rank {}, alpha {:g}{}: {} trainable parameters ({:.2f} %){}\n", lora.rank,
            lora.alpha, lora.use_rslora ? ", rsLoRA" : "", format_count(trainable),
            100.0 * static_cast<double>(trainable) / static_cast<double>(total),
            options.model.adapter.empty() ? "" : ", continued from " + options.model.adapter);
  const DatasetStatistics& rows = data.train.statistics;
  const auto counted = [](std::size_t count) { return format_count(static_cast<std::int64_t>(count)); };
  print_out("data        {}: {} rows as {}, {} tokens, {:.0f} % trained, lengths {} to {}{}{}\n",
            escaped_name(data.train.name()), counted(rows.rows), to_string(data.train.format),
            counted(rows.tokens), 100 * rows.trained_share(), rows.shortest, rows.longest,
            rows.truncated_rows > 0 ? fmt::format(", {} cut off", rows.truncated_rows) : "", left_out(rows));
  if (data.valid) {
    print_out("validation  {}: {} rows{}\n", escaped_name(data.valid->name()),
              counted(data.valid->statistics.rows), options.valid_split > 0 ? " held out" : "");
  }
  print_out("steps       {}: {} tokens, {} of them trained, {:.1f} % padding\n",
            describe_steps(options.train, length), format_count(length.tokens),
            format_count(length.trained_tokens), 100 * length.padding);
  print_out("            {} --packing: {}\n", options.packing ? "without" : "with",
            describe_batches(data.other, data.train.samples));
  const auto size = [](std::size_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  print_out("memory      {} at the peak: weights {}, adapters {}, activations {}, program {}\n",
            size(plan.total()), size(plan.weights), size(plan.adapters), size(plan.activations),
            size(plan.runtime));
  flush_output();
}

void finetune(FinetuneOptions options, const std::string& run_config) {
  finish_finetune_options(options);
  const std::optional<ResumePoint> from = begin_run(options, run_config);
  RunSetup setup(options, from ? from->folder : fs::path());
  {
    const RunSetup::Planned planned = setup.plan();
    print_plan(setup, planned);
    check_fits(planned.memory);
  }
  if (options.plan_only) return;
  const OutputFolder folder(options.output);
  const RunLock lock(options.output);
  // Once more: a run that had the folder until now may have put its files there.
  check_output(options.output, options.model.model, options.overwrite, options.save_every);
  const auto model = setup.load_model(parse_device(options.model.device));
  const Lora lora = setup.attach(*model);
  Trainer trainer(*model, setup.options().train);
  run_training({setup.options(), trainer, lora, setup.sources().train, setup.sources().validation(), from,
                run_config, [&] { save_chat_record(options.output, setup.data().chat); }});
}

}  // namespace

void add_finetune(CLI::App& app, Action& action) {
  auto options = std::make_shared<FinetuneOptions>();
  CLI::App* command = app.add_subcommand("finetune", "Train a LoRA adapter for a model on your data");
  declare_finetune_options(*command, *options);
  command->footer(
      "Example:\n  candela finetune --model models/stories-7m --data data/text-to-sql --output out/sql "
      "--rank 16 --learning-rate 3e-3\n"
      "The run's options are saved in OUTPUT/finetune.yaml; --config takes that file back.\n"
      "Metrics are in OUTPUT/metrics.jsonl.partial while it runs, and in metrics.jsonl once it is saved.\n"
      "Ctrl-C (SIGINT, SIGTERM, SIGHUP) ends the run after the step at hand and saves the adapter and a "
      "checkpoint; the status is then 130 (143, 129).\n"
      "--resume RUN goes on from the last checkpoint of a run, whatever ended it, to the same bits.");
  command->callback([&action, options, command] {
    action = [options, config = config_of(*command)] { finetune(*options, config); };
  });
}

}  // namespace candela::cli
