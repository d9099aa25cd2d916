#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include <candela/core/atomic_file.h>
#include <candela/core/grad.h>
#include <candela/core/process.h>
#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/train/loss_curve.h>
#include <candela/train/run_state.h>

#include "cli/chat_record.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/finetune_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resume.h"
#include "cli/run_files.h"
#include "cli/run_setup.h"
#include "cli/signals.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

/// What an adapter names its base: a name of the Hub without its revision, which other programs would not
/// understand.
std::string base_name(const std::string& model) {
  std::error_code error;
  const std::optional<HubName> name = HubName::parse(model, HubKind::Model);
  return name && !fs::exists(model, error) ? name->id : model;
}

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
  print_out("steps       {} of {} rows{}: {} tokens, {} of them trained, {:.1f} % padding\n", length.steps,
            options.train.batch_size,
            options.train.accumulation > 1 ? fmt::format(" x {} passes", options.train.accumulation) : "",
            format_count(length.tokens), format_count(length.trained_tokens), 100 * length.padding);
  const auto size = [](std::size_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  print_out("memory      {} at the peak: weights {}, adapters {}, activations {}, program {}\n",
            size(plan.total()), size(plan.weights), size(plan.adapters), size(plan.activations),
            size(plan.runtime));
  flush_output();
}

/// What training gave.
struct Outcome {
  /// not stopped by a signal
  bool finished = false;
  /// step 0: there was none
  StepReport last;
  CurvePoints loss{"training loss"};
  CurvePoints validation{"validation loss"};
  std::int64_t best_step = 0;

  void add(const StepReport& report) {
    last = report;
    const auto step = static_cast<double>(report.step);
    if (report.skipped.empty() && report.step > 0) loss.add(step, report.loss);
    if (report.validation_loss) validation.add(step, *report.validation_loss);
    if (report.best) best_step = report.step;
  }
};

Outcome train(RunSetup& setup, Trainer& trainer, const Lora& lora, Checkpoints& checkpoints,
              MetricsFile& metrics, const std::string& run_config) {
  const FinetuneOptions& options = setup.options();
  Outcome outcome;
  for (const StepReport& report : metrics.kept()) outcome.add(report);
  Progress progress("training", setup.sources().train.length().steps, "steps", options.quiet);
  const auto write = [&](const fs::path& folder) {
    lora.save(folder, base_name(options.model.model));
    save_run_state(folder, trainer);
    write_file_atomically(folder / kRunConfigName, run_config);
  };
  outcome.finished =
      trainer.fit(setup.sources().train, setup.sources().validation(), [&](const StepReport& report) {
        outcome.add(report);
        metrics.add(report);
        if (!report.skipped.empty())
          progress.say(fmt::format("step {}: skipped: {}", report.step, report.skipped));
        if (report.validation_loss)
          progress.say(fmt::format("step {}: validation loss {:.4f}", report.step, *report.validation_loss));
        if (report.out_of_patience)
          progress.say(fmt::format("step {}: {} validations without a lower loss end the run", report.step,
                                   options.train.patience));
        if (checkpoints.save_if_due(report.step, write, report.best && options.keep_best))
          progress.say(fmt::format("step {}: saved {}", report.step, checkpoints.last().string()));
        progress.update(report.step, fmt::format("loss {:.4f}  {} tok/s", report.loss,
                                                 format_count(std::llround(report.tokens_per_s))));
      });
  progress.finish();
  // What a signal ends can be gone on with.
  const std::int64_t step = trainer.state().step;
  if (!outcome.finished && step > 0 && checkpoints.last_step() != step)
    checkpoints.save_if_due(step, write, false, true);
  return outcome;
}

/// Puts the adapter of the best validation in place of the last one, and says so.
void take_best(const Outcome& outcome, const Lora& lora, const Checkpoints& checkpoints) {
  if (checkpoints.best().empty() || outcome.best_step == outcome.last.step) return;
  const NoGrad guard;
  const SafetensorsReader best = SafetensorsReader::open(checkpoints.best() / "adapter_model.safetensors");
  for (const NamedTensor& parameter : lora.parameters())
    copy_(parameter.tensor, best.tensor(parameter.name, parameter.tensor.device()));
  print_out("best        step {}: the adapter is that of its checkpoint\n", outcome.best_step);
}

/// The picture is for people: that it could not be drawn is no reason to fail. An earlier run's must not
/// stand for it.
void draw(const FinetuneOptions& options, const Outcome& outcome) {
  std::vector<CurveSeries> series = {outcome.loss.series()};
  if (!outcome.validation.empty()) series.push_back(outcome.validation.series());
  const std::string name = fs::weakly_canonical(options.model.model).filename().string();
  const fs::path file = fs::path(options.output) / "loss.svg";
  try {
    write_loss_curve(file, fmt::format("LoRA fine-tuning of {}", name), series);
  } catch (const Error& error) {
    std::error_code ignored;
    fs::remove(file, ignored);
    warn(error.what());
  }
}

void print_saved(const FinetuneOptions& options, const StepReport& last) {
  print_out("trained     {} tokens in {}, {} tok/s; loss {:.4f}{}; peak memory {}\n",
            format_count(last.tokens), format_duration(last.seconds),
            format_count(std::llround(static_cast<double>(last.tokens) / last.seconds)), last.loss,
            last.validation_loss ? fmt::format(", validation {:.4f}", *last.validation_loss) : "",
            format_bytes(static_cast<double>(process_memory().peak_resident)));
  print_out(
      "saved       {}: adapter_model.safetensors, adapter_config.json, loss.svg, metrics.jsonl, "
      "finetune.yaml\n",
      options.output);
  flush_output();
}

void save(const FinetuneOptions& options, const Outcome& outcome, const Lora& lora,
          const Checkpoints& checkpoints, MetricsFile& metrics, const std::string& run_config,
          const StopSignals& signals, const ChatRecord& chat) {
  signals.hold();
  const int signal = StopSignals::received();
  const auto stopped = [&] {
    return fmt::format("stopped by {} after step {} of {}", StopSignals::name(signal), outcome.last.step,
                       outcome.last.total_steps);
  };
  if (outcome.last.step == 0)
    throw Interrupted(signal, fmt::format("stopped by {} before the first step: nothing to save",
                                          StopSignals::name(signal)));
  // What else may fail comes before the adapter: up to there, an earlier run's files stay as they are.
  AtomicFile config(fs::path(options.output) / "finetune.yaml");
  config.write(run_config);
  config.flush();
  lora.save(options.output, base_name(options.model.model));
  save_chat_record(options.output, chat);
  config.commit();
  metrics.put_in_place();
  checkpoints.remove_others();
  draw(options, outcome);
  try {
    print_saved(options, outcome.last);
  } catch (const IoError&) {
    if (outcome.finished) throw;  // else standard output may have gone with the terminal that hung up
  }
  if (!outcome.finished)
    throw Interrupted(signal, fmt::format("{}: the adapter is saved as it was then; --resume {} goes on",
                                          stopped(), options.output));
}

void finetune(FinetuneOptions options, const std::string& run_config) {
  finish_finetune_options(options);
  set_up_compute(options.model);
  std::optional<ResumePoint> from;
  if (!options.resume.empty()) {
    from = resume_point(options.resume);
    check_resumable(*from, run_config);
    options.overwrite = true;  // what is in the folder is this run's
  }
  if (!options.plan_only)
    check_output(options.output, local_path(options.model.model), options.overwrite, options.save_every);
  options.train.stop = [] { return StopSignals::received() != 0; };
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
  Checkpoints checkpoints(options.output, options.save_every, options.keep_checkpoints);
  MetricsFile metrics(fs::path(options.output) / "metrics.jsonl");
  if (from) {
    load_run_state(from->folder, trainer);
    checkpoints.adopt(from->step, trainer.state().best_step);
    metrics.keep_until(from->step);
    print_out("resumed     after step {}, from {}\n", from->step, from->folder.string());
    flush_output();
  }
  const StopSignals signals;
  try {
    Outcome outcome = train(setup, trainer, lora, checkpoints, metrics, run_config);
    if (outcome.finished && options.keep_best) take_best(outcome, lora, checkpoints);
    save(options, outcome, lora, checkpoints, metrics, run_config, signals, setup.data().chat);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception&) {
    if (!checkpoints.last().empty())
      note(fmt::format("the last checkpoint is {}", checkpoints.last().string()));
    if (!metrics.partial().empty())
      note(fmt::format("the steps of the run are in {}", metrics.partial().string()));
    throw;
  }
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
