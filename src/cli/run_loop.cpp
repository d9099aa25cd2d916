#include "cli/run_loop.h"

#include <cmath>

#include <candela/core/atomic_file.h>
#include <candela/core/grad.h>
#include <candela/core/process.h>
#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>
#include <candela/train/loss_curve.h>
#include <candela/train/run_state.h>

#include "cli/output.h"
#include "cli/progress.h"
#include "cli/run_files.h"
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

Outcome train(const TrainingRun& run, Checkpoints& checkpoints, MetricsFile& metrics) {
  const FinetuneOptions& options = run.options;
  Trainer& trainer = run.trainer;
  Outcome outcome;
  for (const StepReport& report : metrics.kept()) outcome.add(report);
  Progress progress("training", run.train.length().steps, "steps", options.quiet);
  const auto write = [&](const fs::path& folder) {
    run.lora.save(folder, base_name(options.model.model));
    save_run_state(folder, trainer);
    write_file_atomically(folder / kRunConfigName, run.config);
  };
  outcome.finished = trainer.fit(run.train, run.valid, [&](const StepReport& report) {
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

void save(const TrainingRun& run, const Outcome& outcome, const Checkpoints& checkpoints,
          MetricsFile& metrics, const StopSignals& signals) {
  const FinetuneOptions& options = run.options;
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
  config.write(run.config);
  config.flush();
  run.lora.save(options.output, base_name(options.model.model));
  if (run.save_more) run.save_more();
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

}  // namespace

std::optional<ResumePoint> begin_run(FinetuneOptions& options, const std::string& config) {
  set_up_compute(options.model);
  std::optional<ResumePoint> from;
  if (!options.resume.empty()) {
    from = resume_point(options.resume);
    check_resumable(*from, config);
    options.overwrite = true;  // what is in the folder is this run's
  }
  if (!options.plan_only)
    check_output(options.output, local_path(options.model.model), options.overwrite, options.save_every);
  options.train.stop = [] { return StopSignals::received() != 0; };
  return from;
}

void run_training(const TrainingRun& run) {
  const FinetuneOptions& options = run.options;
  Checkpoints checkpoints(options.output, options.save_every, options.keep_checkpoints);
  MetricsFile metrics(fs::path(options.output) / "metrics.jsonl");
  if (run.from) {
    load_run_state(run.from->folder, run.trainer);
    checkpoints.adopt(run.from->step, run.trainer.state().best_step);
    metrics.keep_until(run.from->step);
    print_out("resumed     after step {}, from {}\n", run.from->step, run.from->folder.string());
    flush_output();
  }
  const StopSignals signals;
  try {
    const Outcome outcome = train(run, checkpoints, metrics);
    if (outcome.finished && options.keep_best) take_best(outcome, run.lora, checkpoints);
    save(run, outcome, checkpoints, metrics, signals);
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

}  // namespace candela::cli
