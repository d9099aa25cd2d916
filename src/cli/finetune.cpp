#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include <candela/core/atomic_file.h>
#include <candela/core/process.h>
#include <candela/io/dataset.h>
#include <candela/lora/lora.h>
#include <candela/train/loss_curve.h>
#include <candela/train/memory_plan.h>
#include <candela/train/trainer.h>

#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/finetune_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/run_files.h"
#include "cli/signals.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct Data {
  Dataset train;
  std::optional<Dataset> valid;
};

/// Where the batches come from.
struct Sources {
  SampleSource train;
  std::optional<ValidationSource> valid;

  Sources(const Data& data, const TrainOptions& options) : train(data.train.samples, options) {
    if (data.valid) valid.emplace(data.valid->samples, options.batch_size, options.pad_id);
  }
  BatchSource* validation() { return valid ? &*valid : nullptr; }
};

Data load_data(const FinetuneOptions& options, const ModelConfig& config, const Tokenizer& tokenizer) {
  const DatasetOptions rows = dataset_options(options.rows, tokenizer, config);
  const DatasetFiles files = DatasetFiles::find(options.data);
  Data data{Dataset::load(files.train, tokenizer, rows), std::nullopt};
  if (options.valid_split > 0) {
    require<UsageError>(!files.valid, "--valid-split: {} is there to validate on; leave one of them out",
                        files.valid ? files.valid->string() : "");
    data.valid = data.train.hold_out(options.valid_split, options.train.seed);
  } else if (!options.valid.empty()) {
    data.valid = Dataset::load(options.valid, tokenizer, rows);
  } else if (files.valid) {
    data.valid = Dataset::load(*files.valid, tokenizer, rows);
  }
  require<UsageError>(data.valid || options.train.validate_every == 0,
                      "--validate-every: there is nothing to validate on; give --valid, --valid-split, or a "
                      "valid.jsonl beside train.jsonl");
  return data;
}

void print_plan(const FinetuneOptions& options, const Data& data, const Model& shape, const LoraConfig& lora,
                std::int64_t trainable, const TrainLength& length, const MemoryPlan& plan) {
  const std::int64_t total = shape.parameter_count();
  print_out("model       {} ({}, {} parameters, {} on {})\n", options.model.model, shape.config().model_type,
            format_count(total), to_string(shape.dtype()), options.model.device);
  print_out("adapter     LoRA, rank {}, alpha {:g}{}: {} trainable parameters ({:.2f} %){}\n", lora.rank,
            lora.alpha, lora.use_rslora ? ", rsLoRA" : "", format_count(trainable),
            100.0 * static_cast<double>(trainable) / static_cast<double>(total),
            options.model.adapter.empty() ? "" : ", continued from " + options.model.adapter);
  const DatasetStatistics& rows = data.train.statistics;
  const auto counted = [](std::size_t count) { return format_count(static_cast<std::int64_t>(count)); };
  print_out("data        {}: {} rows as {}, {} tokens, {:.0f} % trained, lengths {} to {}{}{}\n",
            data.train.file.string(), counted(rows.rows), to_string(data.train.format), counted(rows.tokens),
            100 * rows.trained_share(), rows.shortest, rows.longest,
            rows.truncated_rows > 0 ? fmt::format(", {} cut off", rows.truncated_rows) : "",
            rows.dropped_rows > 0
                ? fmt::format(", {} left out (--max-length cuts off their answer)", rows.dropped_rows)
                : "");
  if (data.valid) {
    print_out("validation  {}: {} rows{}\n", data.valid->file.string(), counted(data.valid->statistics.rows),
              options.valid_split > 0 ? " held out" : "");
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
  bool finished = false;  ///< not stopped by a signal
  StepReport last;        ///< step 0: there was none
  CurvePoints loss{"training loss"};
  CurvePoints validation{"validation loss"};
};

Outcome train(const FinetuneOptions& options, Sources& sources, Model& model, const Lora& lora,
              Checkpoints& checkpoints, MetricsFile& metrics) {
  TrainOptions train_options = options.train;
  train_options.stop = [] { return StopSignals::received() != 0; };
  Trainer trainer(model, train_options);
  Outcome outcome;
  Progress progress("training", sources.train.length().steps, "steps", options.quiet);
  outcome.finished = trainer.fit(sources.train, sources.validation(), [&](const StepReport& report) {
    outcome.last = report;
    metrics.add(report);
    const auto step = static_cast<double>(report.step);
    if (!report.skipped.empty())
      progress.say(fmt::format("step {}: skipped: {}", report.step, report.skipped));
    else
      outcome.loss.add(step, report.loss);
    if (report.validation_loss) {
      outcome.validation.add(step, *report.validation_loss);
      progress.say(fmt::format("step {}: validation loss {:.4f}", report.step, *report.validation_loss));
    }
    if (checkpoints.save_if_due(report.step, lora, options.model.model))
      progress.say(fmt::format("step {}: saved {}", report.step, checkpoints.last().string()));
    progress.update(report.step, fmt::format("loss {:.4f}  {} tok/s", report.loss,
                                             format_count(std::llround(report.tokens_per_s))));
  });
  progress.finish();
  return outcome;
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
          const StopSignals& signals) {
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
  lora.save(options.output, options.model.model);
  config.commit();
  metrics.put_in_place();
  checkpoints.remove_others();
  draw(options, outcome);
  try {
    print_saved(options, outcome.last);
  } catch (const IoError&) {
    if (outcome.finished) throw;  // else standard output may have gone with the terminal that hung up
  }
  if (!outcome.finished) throw Interrupted(signal, stopped() + ": the adapter is saved as it was then");
}

void finetune(FinetuneOptions options, const std::string& run_config) {
  finish_finetune_options(options);
  set_up_compute(options.model);
  if (!options.plan_only)
    check_output(options.output, options.model.model, options.overwrite, options.save_every);
  const ModelConfig config = ModelConfig::load(options.model.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model.model);
  const Data data = load_data(options, config, tokenizer);
  options.train.pad_id = static_cast<std::int32_t>(config.pad_token_id.value_or(0));
  const auto attach = [&](Model& model) {
    return options.model.adapter.empty() ? Lora::attach(model, options.lora, options.train.seed)
                                         : Lora::load(model, options.model.adapter, true);
  };
  Sources sources(data, options.train);
  std::unique_ptr<Model> shape;
  std::optional<Lora> planned;
  const auto prepare = [&]() -> Model& {
    shape = load_model(options.model.model, load_options(options.model, true, Device::plan()));
    planned = attach(*shape);
    for (const std::string& text : planned->notes()) note(text);
    sources.train.check(shape->config().vocab_size);
    return *shape;
  };
  const MemoryPlan plan = plan_memory(prepare, options.train, sources.train, sources.validation());
  print_plan(options, data, *shape, planned->config(), planned->parameter_count(), sources.train.length(),
             plan);
  check_fits(plan);
  if (options.plan_only) return;
  const OutputFolder folder(options.output);
  const RunLock lock(options.output);
  const auto model =
      load_model(options.model.model, load_options(options.model, true, parse_device(options.model.device)));
  const Lora lora = attach(*model);
  Checkpoints checkpoints(options.output, options.save_every, options.keep_checkpoints);
  MetricsFile metrics(fs::path(options.output) / "metrics.jsonl");
  const StopSignals signals;
  try {
    const Outcome outcome = train(options, sources, *model, lora, checkpoints, metrics);
    save(options, outcome, lora, checkpoints, metrics, run_config, signals);
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
      "Ctrl-C (SIGINT, SIGTERM, SIGHUP) ends the run after the step at hand and saves the adapter; the "
      "status is then 130 (143, 129).");
  command->callback([&action, options, command] {
    action = [options, config = config_of(*command)] { finetune(*options, config); };
  });
}

}  // namespace candela::cli
