#include "cli/spelling.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "cli/options.h"

namespace candela::cli {
namespace {

struct Alias {
  std::string_view theirs, ours;
  /// as Spelling::when_on; empty: the value that is given
  std::string_view when_on = {};
};

/// By transformers' TrainingArguments, peft's LoraConfig, TRL's SFTConfig and mlx_lm.lora. Where two of ours
/// stand for one of theirs, the first that the command has.
constexpr std::array kAliases = {
    Alias{"model-name-or-path", "model"},
    Alias{"dataset", "data"},
    Alias{"dataset-name", "data"},
    Alias{"train-file", "data"},
    Alias{"validation-file", "valid"},
    Alias{"validation-split", "valid-split"},
    Alias{"output-dir", "output"},
    Alias{"r", "rank"},
    Alias{"lora-r", "rank"},
    Alias{"lora-rank", "rank"},
    Alias{"lora-alpha", "alpha"},
    Alias{"lora-dropout", "dropout"},
    Alias{"use-rslora", "rslora"},
    Alias{"lora-target-modules", "target-modules"},
    Alias{"per-device-train-batch-size", "batch-size"},
    Alias{"per-device-eval-batch-size", "batch-size"},
    Alias{"train-batch-size", "batch-size"},
    Alias{"gradient-accumulation-steps", "accumulation"},
    Alias{"grad-accumulation-steps", "accumulation"},
    Alias{"num-train-epochs", "epochs"},
    Alias{"iters", "max-steps"},
    Alias{"lr", "learning-rate"},
    Alias{"lr-scheduler-type", "schedule"},
    Alias{"warmup-ratio", "warmup"},
    Alias{"adam-beta1", "beta1"},
    Alias{"adam-beta2", "beta2"},
    Alias{"adam-epsilon", "eps"},
    Alias{"max-grad-norm", "clip-norm"},
    Alias{"max-seq-length", "max-length"},
    Alias{"max-seq-len", "max-length"},
    Alias{"eval-steps", "validate-every"},
    Alias{"steps-per-eval", "validate-every"},
    Alias{"eval-on-start", "validate-first"},
    Alias{"early-stopping-patience", "patience"},
    Alias{"load-best-model-at-end", "keep-best"},
    Alias{"save-steps", "save-every"},
    Alias{"save-total-limit", "keep-checkpoints"},
    Alias{"resume-from-checkpoint", "resume"},
    Alias{"overwrite-output-dir", "overwrite"},
    Alias{"gradient-checkpointing", "checkpoint", "layer"},
    Alias{"grad-checkpoint", "checkpoint", "layer"},
    Alias{"bf16", "dtype", "bf16"},
    Alias{"fp16", "dtype", "f16"},
    Alias{"max-new-tokens", "max-tokens"},
    Alias{"temp", "temperature"},
};

/// Optimal string alignment: insertions, deletions, changes and swaps of neighbours.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

Spelling find_spelling(CLI::App& command, const std::string& name) {
  const auto named = [&](std::string_view by) { return find_option(command, "--" + std::string(by)); };
  if (CLI::Option* option = named(name)) return {option, std::nullopt};
  std::string spelled = name;
  std::replace(spelled.begin(), spelled.end(), '_', '-');
  if (CLI::Option* option = named(spelled)) return {option, std::nullopt};
  for (const Alias& alias : kAliases) {
    if (alias.theirs != spelled) continue;
    CLI::Option* const option = named(alias.ours);
    if (option == nullptr) continue;
    return {option, alias.when_on.empty() ? std::nullopt : std::optional<std::string>(alias.when_on)};
  }
  return {};
}

std::string nearest(std::string_view name, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 64;
  if (name.empty() || name.size() > kLongest) return {};
  std::string spelled(name);
  std::replace(spelled.begin(), spelled.end(), '_', '-');
  std::string best;
  std::size_t least = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t far = distance(spelled, candidate);
    if (far >= least) continue;
    least = far;
    best = candidate;
  }
  if (!best.empty() || name.size() < 3) return best;
  // Not mistyped, but half remembered: the beginning of a name, or a word of it.
  for (const std::string& candidate : known) {
    if (candidate.starts_with(spelled) || candidate.ends_with("-" + spelled)) return candidate;
  }
  for (const std::string& candidate : known) {
    if (candidate.size() >= 4 && spelled.find(candidate) != std::string::npos) return candidate;
  }
  return {};
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known,
                         std::string_view prefix) {
  const std::string near = nearest(name, known);
  return near.empty() ? std::string("; ") : fmt::format("; did you mean {}{}? ", prefix, near);
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    const auto& own = option->get_lnames();
    names.insert(names.end(), own.begin(), own.end());
  }
  return names;
}

}  // namespace candela::cli
