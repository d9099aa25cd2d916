#include "cli/finetune_options.h"

#include <limits>

#include "cli/options.h"
#include "cli/usage.h"
#include "io/regex.h"

namespace candela::cli {
namespace {

constexpr double kMostRows = 1 << 20;
constexpr double kMostSteps = 1e12;
constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// What is wrong with a pattern of layers; empty: nothing.
std::string pattern_fault(const std::string& pattern) {
  try {
    static_cast<void>(io::Regex(pattern, "as a regular expression"));
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

CLI::Validator layer_pattern() {
  return CLI::Validator(
      [](const std::string& text) {
        return text.empty() ? std::string("must not be empty") : pattern_fault(text);
      },
      "");
}

/// PATTERN=NUMBER
CLI::Validator pattern_and_number(const Bounds& bounds, bool whole) {
  return CLI::Validator(
      [check = number_within(bounds, whole)](const std::string& text) {
        const auto equals = text.rfind('=');
        if (equals == std::string::npos || equals == 0)
          return fmt::format("expected PATTERN=NUMBER; got \"{}\"", text);
        const std::string fault = pattern_fault(text.substr(0, equals));
        const std::string out_of_range = check(text.substr(equals + 1));
        if (!fault.empty() || out_of_range.empty()) return fault;
        return fmt::format("expected PATTERN=NUMBER; the number of \"{}\" {}", text, out_of_range);
      },
      "");
}

/// The pairs of texts that pattern_and_number() took.
template <class T>
std::vector<std::pair<std::string, T>> parse_patterns(const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, T>> result;
  for (const std::string& text : texts) {
    const auto equals = text.rfind('=');
    T value{};
    CLI::detail::lexical_cast(text.substr(equals + 1), value);
    result.emplace_back(text.substr(0, equals), value);
  }
  return result;
}

void declare_data_options(CLI::App& command, FinetuneOptions& options) {
  add_data_list(command, options.data)->required();
  add_path(command, "--output", options.output,
           "Folder for the adapter (peft format), the loss curve and the metrics")
      ->required();
  CLI::Option* const valid =
      add_list(command, "--valid", options.valid, "Files to validate on, instead of valid.jsonl; as --data");
  add_number(command, "--valid-split", options.valid_split, {0, 1, false, true},
             "Share of the rows to hold out and validate on, drawn by --seed; 0: none")
      ->excludes(valid);
  declare_row_options(command, options.rows);
}

}  // namespace

void declare_lora_options(CLI::App& command, FinetuneOptions& options) {
  LoraConfig& lora = options.lora;
  CLI::Option* const adapter = find_option(command, "--adapter");
  adapter->description(
      "peft folder with an adapter to train further; rank, alpha, dropout and targets are its own");
  std::vector<CLI::Option*> own = {
      add_number(command, "--rank", lora.rank, {1, kMostRank}, "Rank r of the adapters"),
      add_number(command, "--alpha", lora.alpha, {0, kNoLimit, true},
                 "The adapter's output is scaled by alpha / rank"),
      add_number(command, "--dropout", lora.dropout, {0, 1, false, true},
                 "Probability of dropping an element of an adapter's input in training"),
      command.add_flag("--rslora", lora.use_rslora, "Scale by alpha / sqrt(rank) instead"),
      add_names(command, "--target-modules", options.targets,
                "Names of layers (q_proj,v_proj), or all-linear: every layer but the output layer"),
      command
          .add_option("--target-regex", options.target_regex,
                      "Regular expression that a layer's whole path must match, instead of names")
          ->check(layer_pattern()),
      add_names(command, "--exclude-modules", lora.excluded.names, "Names of layers to leave out"),
      add_list(command, "--rank-pattern", options.rank_pattern,
               "PATTERN=RANK: another rank for the layers that match")
          ->check(pattern_and_number({1, kMostRank}, true)),
      add_list(command, "--alpha-pattern", options.alpha_pattern,
               "PATTERN=ALPHA: another alpha for the layers that match")
          ->check(pattern_and_number({}, false))};
  find_option(command, "--target-regex")->excludes(find_option(command, "--target-modules"));
  for (CLI::Option* const option : own) adapter->excludes(option);
}

void declare_train_options(CLI::App& command, FinetuneOptions& options) {
  TrainOptions& train = options.train;
  add_number(command, "--batch-size", train.batch_size, {1, kMostRows},
             "Rows of one forward pass; with --packing, as many packs as hold so many rows of mean length");
  CLI::Option* const packing = command.add_flag(
      "--packing", options.packing,
      "Put rows behind each other into packs (best fit), without padding and without seeing each other, "
      "instead of padding batches of rows of like length");
  add_number(command, "--pack-length", options.pack_length, {0, kMostCount},
             "Tokens of a pack; 0: --max-length, or the model's context up to 2048, or the longest row")
      ->needs(packing);
  add_number(command, "--accumulation", train.accumulation, {1, kMostRows},
             "Forward passes per step; gradients are weighted by tokens");
  add_number(command, "--epochs", train.epochs, {0, 1e6, true}, "Passes over the data");
  add_number(command, "--max-steps", train.max_steps, {0, kMostSteps},
             "Steps, whatever --epochs says; 0: as --epochs says");
  add_number(command, "--learning-rate", train.adamw.lr, {0, kNoLimit, true}, "Peak learning rate");
  add_choice(command, "--schedule", options.schedule, {"constant", "linear", "cosine"},
             "The learning rate after warm-up");
  add_number(command, "--warmup", train.warmup, {0, 1},
             "Share of the steps in which the learning rate rises from 0");
  add_number(command, "--floor", train.floor, {0, 1},
             "What the learning rate decays to, as a share of the peak");
  add_number(command, "--weight-decay", train.adamw.weight_decay, {0, kNoLimit},
             "AdamW's decoupled weight decay");
  add_number(command, "--beta1", train.adamw.beta1, {0, 1, false, true}, "AdamW's decay of the first moment");
  add_number(command, "--beta2", train.adamw.beta2, {0, 1, false, true},
             "AdamW's decay of the second moment");
  add_number(command, "--eps", train.adamw.eps, {0, 1, true}, "AdamW's epsilon");
  add_number(command, "--clip-norm", train.clip_norm, {0, kNoLimit},
             "Scale gradients down to this global norm; 0: never");
  add_choice(command, "--checkpoint", options.checkpoint, {"keep", "none", "mlp", "layer"},
             "What is computed again on the way back instead of kept: less memory, more time, the same bits");
  add_number(command, "--validate-every", train.validate_every, {0, kMostSteps},
             "Steps between validations; 0: once, at the end");
  command.add_flag("--validate-first", train.validate_first, "Validate before step 1 too");
  add_number(command, "--patience", train.patience, {0, kMostSteps},
             "End the run after so many validations in a row without a lower loss; 0: never");
  add_number(command, "--max-skipped", train.max_skipped, {0, kMostSteps},
             "Steps in a row that may be skipped because loss or gradient is not finite");
  add_number(command, "--seed", train.seed, {0, 9.2e18},
             "Seed of the adapters, the order of rows and dropout");
}

void declare_run_options(CLI::App& command, FinetuneOptions& options) {
  CLI::Option* const every =
      add_number(command, "--save-every", options.save_every, {0, kMostSteps},
                 "Steps between checkpoints, OUTPUT/checkpoint-STEP with the adapter as it is then; 0: none");
  add_number(command, "--keep-checkpoints", options.keep_checkpoints, {1, kMostCount},
             "How many checkpoints to keep, the last ones")
      ->needs(every);
  command.add_flag("--keep-best", options.keep_best,
                   "Keep the checkpoint of the lowest validation loss beside the last ones, and end with its "
                   "adapter");
  add_path(command, "--resume", options.resume,
           "Go on from the last checkpoint in this run's folder (or from this checkpoint) with the run's own "
           "options");
  command.add_flag("--plan", options.plan_only,
                   "Print the plan (parameters, tokens, memory, steps) and stop");
  command.add_flag(
      "--overwrite", options.overwrite,
      "Replace an earlier run in --output: its files once this run is saved (one that fails leaves "
      "them), its checkpoints of the same step at once");
  command.add_flag("--quiet", options.quiet, "No progress bar");
  command.add_option("--config", "YAML or JSON file with any of these options; the command line wins");
}

void declare_finetune_options(CLI::App& command, FinetuneOptions& options) {
  options.train.adamw.lr = 2e-4;
  declare_model_options(command, options.model);
  declare_data_options(command, options);
  declare_lora_options(command, options);
  declare_train_options(command, options);
  declare_run_options(command, options);
}

void finish_finetune_options(FinetuneOptions& options) {
  // A checkpoint holds what the step that it is named after left.
  options.train.settle_every = options.save_every;
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
  config.rank_pattern = parse_patterns<std::int64_t>(options.rank_pattern);
  config.alpha_pattern = parse_patterns<double>(options.alpha_pattern);
  options.train.schedule = parse_schedule(options.schedule);
  options.train.checkpointing = parse_checkpointing(options.checkpoint);
  require<UsageError>(
      options.pack_length != 1,
      "--pack-length: must be 0 or at least 2: one token to predict from, one to predict; got 1");
  require<UsageError>(
      options.train.schedule != Schedule::Constant || options.train.floor == 0,
      "--floor: has no effect on a constant learning rate; leave it out, or choose --schedule linear "
      "or cosine");
  try {
    check_lora_config(config);
    check_train_options(options.train);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

}  // namespace candela::cli
