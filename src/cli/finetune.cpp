#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include <candela/core/parallel.h>
#include <candela/core/process.h>
#include <candela/io/atomic_file.h>
#include <candela/io/dataset.h>
#include <candela/lora/lora.h>
#include <candela/train/loss_curve.h>
#include <candela/train/memory_plan.h>
#include <candela/train/trainer.h>

#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/model_options.h"
#include "cli/progress.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct FinetuneOptions {
  ModelOptions model;
  std::string data;
  std::string output;
  std::string valid;
  std::size_t max_length = 0;
  bool truncate = false;
  bool train_on_prompt = false;
  LoraConfig lora;
  std::vector<std::string> targets = {kAllLinear};
  std::string target_regex;
  std::vector<std::string> rank_pattern;
  std::vector<std::string> alpha_pattern;
  TrainOptions train;
  std::string schedule = "cosine";
  bool overwrite = false;
  bool plan_only = false;
  bool quiet = false;
};

/// "pattern=value" pairs.
template <class T>
std::vector<std::pair<std::string, T>> parse_patterns(const char* option,
                                                      const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, T>> result;
  for (const std::string& text : texts) {
    const auto equals = text.rfind('=');
    T value{};
    require(equals != std::string::npos && equals > 0 &&
                CLI::detail::lexical_cast(text.substr(equals + 1), value),
            "{}: expected PATTERN=NUMBER; got \"{}\"", option, text);
    result.emplace_back(text.substr(0, equals), value);
  }
  return result;
}

void finish_lora_config(FinetuneOptions& options) {
  LoraConfig& config = options.lora;
  config.targets = {};
  for (const std::string& target : options.targets) {
    if (target == kAllLinear) {
      config.targets.pattern = kAllLinear;
    } else {
      config.targets.names.push_back(target);
    }
  }
  if (!options.target_regex.empty()) config.targets = {{}, options.target_regex};
  config.rank_pattern = parse_patterns<std::int64_t>("--rank-pattern", options.rank_pattern);
  config.alpha_pattern = parse_patterns<double>("--alpha-pattern", options.alpha_pattern);
  check_lora_config(config);
}

struct Data {
  Dataset train;
  std::optional<Dataset> valid;
};

Data load_data(const FinetuneOptions& options, const ModelConfig& config, const Tokenizer& tokenizer) {
  DatasetOptions rows = DatasetOptions::for_model(tokenizer, config);
  if (options.max_length > 0) rows.max_length = options.max_length;
  rows.truncate = options.truncate;
  rows.train_on_prompt = options.train_on_prompt;
  const DatasetFiles files = DatasetFiles::find(options.data);
  Data data{Dataset::load(files.train, tokenizer, rows), std::nullopt};
  if (!options.valid.empty()) {
    data.valid = Dataset::load(options.valid, tokenizer, rows);
  } else if (files.valid) {
    data.valid = Dataset::load(*files.valid, tokenizer, rows);
  }
  return data;
}

/// Refuses to write over an earlier run, before any work is done.
void check_output(const FinetuneOptions& options) {
  const fs::path adapter = fs::path(options.output) / "adapter_model.safetensors";
  require(options.overwrite || !fs::exists(adapter),
          "{}: exists already; choose another --output, or give --overwrite", adapter.string());
}

void print_plan(const FinetuneOptions& options, const Data& data, const Model& shape, std::int64_t trainable,
                const TrainLength& length, const MemoryPlan& plan) {
  const std::int64_t total = shape.parameter_count();
  fmt::print("model       {} ({}, {} parameters, {} on {})\n", options.model.model, shape.config().model_type,
             format_count(total), to_string(shape.dtype()), options.model.device);
  fmt::print("adapter     LoRA, rank {}, alpha {:g}{}: {} trainable parameters ({:.2f} %)\n",
             options.lora.rank, options.lora.alpha, options.lora.use_rslora ? ", rsLoRA" : "",
             format_count(trainable), 100.0 * static_cast<double>(trainable) / static_cast<double>(total));
  const DatasetStatistics& rows = data.train.statistics;
  fmt::print("data        {}: {} rows as {}, {} tokens, {:.0f} % trained, lengths {} to {}{}\n",
             data.train.file.string(), format_count(static_cast<std::int64_t>(rows.rows)),
             to_string(data.train.format), format_count(static_cast<std::int64_t>(rows.tokens)),
             100 * rows.trained_share(), rows.shortest, rows.longest,
             rows.truncated_rows > 0 ? fmt::format(", {} cut off", rows.truncated_rows) : "");
  if (data.valid) {
    fmt::print("validation  {}: {} rows\n", data.valid->file.string(),
               format_count(static_cast<std::int64_t>(data.valid->statistics.rows)));
  }
  fmt::print("steps       {} of {} rows{}: {} tokens, {} of them trained, {:.1f} % padding\n", length.steps,
             options.train.batch_size,
             options.train.accumulation > 1 ? fmt::format(" x {} passes", options.train.accumulation) : "",
             format_count(length.tokens), format_count(length.trained_tokens), 100 * length.padding);
  const auto size = [](std::size_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  fmt::print("memory      {} at the peak: weights {}, adapters {}, activations {}, program {}\n",
             size(plan.total()), size(plan.weights), size(plan.adapters), size(plan.activations),
             size(plan.runtime));
  std::fflush(stdout);
}

nlohmann::json to_json(const StepReport& report) {
  nlohmann::json line = {{"step", report.step},
                         {"loss", report.loss},
                         {"learning_rate", report.learning_rate},
                         {"grad_norm", report.grad_norm},
                         {"tokens", report.tokens},
                         {"trained_tokens", report.trained_tokens},
                         {"seconds", report.seconds},
                         {"tokens_per_s", report.tokens_per_s},
                         {"peak_memory_bytes", process_memory().peak_resident}};
  if (report.validation_loss) line["validation_loss"] = *report.validation_loss;
  return line;
}

/// Metrics as JSONL while the run goes on: each line is whole when it is there, so a stopped run keeps what
/// it measured.
class MetricsFile {
 public:
  explicit MetricsFile(const fs::path& path) : path_(path), out_(path, std::ios::trunc) { check(); }
  void add(const StepReport& report) {
    out_ << to_json(report).dump() << '\n' << std::flush;
    check();
  }

 private:
  void check() const {
    require<IoError>(out_.good(), "{}: cannot be written; is the disk full?", path_.string());
  }
  fs::path path_;
  std::ofstream out_;
};

void train(const FinetuneOptions& options, const Data& data, Model& model,
           const TrainOptions& train_options) {
  const fs::path output = options.output;
  MetricsFile metrics(output / "metrics.jsonl");
  Trainer trainer(model, train_options);
  CurveSeries loss{"training loss", {}};
  CurveSeries validation{"validation loss", {}};
  const std::int64_t steps = trainer.length(data.train.samples).steps;
  Progress progress("training", steps, "steps", options.quiet);
  StepReport last;
  trainer.fit(
      data.train.samples,
      data.valid ? std::span<const Sample>(data.valid->samples) : std::span<const Sample>(),
      [&](const StepReport& report) {
        last = report;
        metrics.add(report);
        loss.points.emplace_back(report.step, report.loss);
        if (report.validation_loss) {
          validation.points.emplace_back(report.step, *report.validation_loss);
          progress.say(fmt::format("step {}: validation loss {:.4f}", report.step, *report.validation_loss));
        }
        progress.update(report.step, fmt::format("loss {:.4f}  {} tok/s", report.loss,
                                                 format_count(std::llround(report.tokens_per_s))));
      });
  progress.finish();
  std::vector<CurveSeries> series = {loss};
  if (!validation.points.empty()) series.push_back(validation);
  write_loss_curve(output / "loss.svg",
                   fmt::format("LoRA fine-tuning of {}", fs::path(options.model.model).filename().string()),
                   series);
  fmt::print("trained     {} tokens in {}, {} tok/s; loss {:.4f}{}; peak memory {}\n",
             format_count(last.tokens), format_duration(last.seconds),
             format_count(std::llround(static_cast<double>(last.tokens) / last.seconds)), last.loss,
             last.validation_loss ? fmt::format(", validation {:.4f}", *last.validation_loss) : "",
             format_bytes(static_cast<double>(process_memory().peak_resident)));
}

void finetune(FinetuneOptions options, const std::string& run_config) {
  set_thread_count(options.model.threads);
  finish_lora_config(options);
  options.train.schedule = parse_schedule(options.schedule);
  check_output(options);
  const ModelConfig config = ModelConfig::load(options.model.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model.model);
  const Data data = load_data(options, config, tokenizer);
  options.train.pad_id = static_cast<std::int32_t>(config.pad_token_id.value_or(0));
  std::int64_t trainable = 0;
  const auto prepare = [&](Device device) {
    auto model = load_model(options.model.model, {wanted_dtype(options.model, true), device});
    trainable = Lora::attach(*model, options.lora, options.train.seed).parameter_count();
    return model;
  };
  const auto shape = prepare(Device::plan());
  const TrainLength length = Trainer(*shape, options.train).length(data.train.samples);
  const MemoryPlan plan = plan_memory(prepare, options.train, data.train.samples, length.worst_batch);
  print_plan(options, data, *shape, trainable, length, plan);
  check_fits(plan);
  if (options.plan_only) return;
  fs::create_directories(options.output);
  const auto model = load_model(options.model.model,
                                {wanted_dtype(options.model, true), parse_device(options.model.device)});
  const Lora lora = Lora::attach(*model, options.lora, options.train.seed);
  train(options, data, *model, options.train);
  lora.save(options.output, options.model.model);
  write_file_atomically(fs::path(options.output) / "finetune.yaml", run_config);
  fmt::print(
      "saved       {}: adapter_model.safetensors, adapter_config.json, loss.svg, metrics.jsonl, "
      "finetune.yaml\n",
      options.output);
}

void declare_lora_options(CLI::App& command, FinetuneOptions& options) {
  LoraConfig& lora = options.lora;
  command.add_option("--rank", lora.rank, "Rank r of the adapters")->capture_default_str();
  command.add_option("--alpha", lora.alpha, "The adapter's output is scaled by alpha / rank")
      ->capture_default_str();
  command.add_option("--dropout", lora.dropout, "Probability of dropping an adapter's input in training")
      ->capture_default_str();
  command.add_flag("--rslora", lora.use_rslora, "Scale by alpha / sqrt(rank) instead");
  command
      .add_option("--target-modules", options.targets, "Names of layers (q_proj v_proj ...), or all-linear")
      ->capture_default_str()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--target-regex", options.target_regex,
                     "Regular expression that a layer's whole path must match, instead of names");
  command.add_option("--exclude-modules", lora.excluded.names, "Names of layers to leave out")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      .add_option("--rank-pattern", options.rank_pattern,
                  "PATTERN=RANK: another rank for the layers that match")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      .add_option("--alpha-pattern", options.alpha_pattern,
                  "PATTERN=ALPHA: another alpha for the layers that match")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void declare_train_options(CLI::App& command, FinetuneOptions& options) {
  TrainOptions& train = options.train;
  command.add_option("--batch-size", train.batch_size, "Rows of one forward pass")->capture_default_str();
  command
      .add_option("--accumulation", train.accumulation,
                  "Forward passes per step; gradients are weighted by tokens")
      ->capture_default_str();
  command.add_option("--epochs", train.epochs, "Passes over the data")->capture_default_str();
  command.add_option("--max-steps", train.max_steps, "Steps, whatever --epochs says; 0: as --epochs says")
      ->capture_default_str();
  command.add_option("--learning-rate", train.adamw.lr, "Peak learning rate")->capture_default_str();
  command.add_option("--schedule", options.schedule, "After warm-up: constant, linear or cosine")
      ->capture_default_str();
  command.add_option("--warmup", train.warmup, "Share of the steps in which the learning rate rises")
      ->capture_default_str();
  command.add_option("--floor", train.floor, "Last learning rate as a share of the peak")
      ->capture_default_str();
  command.add_option("--weight-decay", train.adamw.weight_decay, "AdamW's decoupled weight decay")
      ->capture_default_str();
  command.add_option("--beta1", train.adamw.beta1, "AdamW's decay of the first moment")
      ->capture_default_str();
  command.add_option("--beta2", train.adamw.beta2, "AdamW's decay of the second moment")
      ->capture_default_str();
  command.add_option("--eps", train.adamw.eps, "AdamW's epsilon")->capture_default_str();
  command.add_option("--clip-norm", train.clip_norm, "Scale gradients down to this global norm; 0: never")
      ->capture_default_str();
  command
      .add_option("--validate-every", train.validate_every, "Steps between validations; 0: once, at the end")
      ->capture_default_str();
  command.add_option("--seed", train.seed, "Seed of the adapters, the order of rows and dropout")
      ->capture_default_str();
}

}  // namespace

void add_finetune(CLI::App& app, Action& action) {
  auto options = std::make_shared<FinetuneOptions>();
  options->train.adamw.lr = 2e-4;
  CLI::App* command = app.add_subcommand("finetune", "Train a LoRA adapter for a model on your data");
  declare_model_options(*command, options->model, false);
  command
      ->add_option(
          "--data", options->data,
          "JSONL file, or folder with train.jsonl (and valid.jsonl): text, prompt/completion or messages")
      ->required();
  command
      ->add_option("--output", options->output,
                   "Folder for the adapter (peft format), the loss curve and the metrics")
      ->required();
  command->add_option("--valid", options->valid, "JSONL file to validate on, instead of valid.jsonl");
  command
      ->add_option("--max-length", options->max_length, "Longest row in tokens; 0: what the model can take")
      ->capture_default_str();
  command->add_flag("--truncate", options->truncate, "Cut longer rows off instead of refusing them");
  command->add_flag("--train-on-prompt", options->train_on_prompt,
                    "Train on prompts and user turns too, not on answers alone");
  declare_lora_options(*command, *options);
  declare_train_options(*command, *options);
  command->add_flag("--plan", options->plan_only,
                    "Print the plan (parameters, tokens, memory, steps) and stop");
  command->add_flag("--overwrite", options->overwrite, "Replace the adapter of an earlier run in --output");
  command->add_flag("--quiet", options->quiet, "No progress bar");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela finetune --model models/stories-7m --data data/text-to-sql --output out/sql "
      "--rank 16 --learning-rate 3e-3\n"
      "The run's options are saved in OUTPUT/finetune.yaml; --config takes that file back.");
  command->callback([&action, options, command] {
    action = [options, config = config_of(*command)] { finetune(*options, config); };
  });
}

}  // namespace candela::cli
