#include <algorithm>
#include <cstring>
#include <memory>

#include <candela/io/safetensors.h>
#include <candela/train/run_state.h>

#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/finetune_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resume.h"
#include "cli/run_setup.h"
#include "cli/signals.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

struct VerifyOptions {
  std::string run;
  bool quiet = false;
};

/// The options that a checkpoint's finetune.yaml holds, as `finetune --config` would take them.
FinetuneOptions saved_options(const ResumePoint& point) {
  FinetuneOptions options;
  CLI::App app;
  CLI::App* const command = app.add_subcommand("finetune");
  declare_finetune_options(*command, options);
  const std::string file = (point.folder / kRunConfigName).string();
  std::vector<std::string> arguments = expand_config(app, {"finetune", "--config", file});
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}: {}", file, error.what()));
  }
  finish_finetune_options(options);
  return options;
}

/// "lora_A.weight (element 17)": where two lists of tensors differ in a bit; empty: nowhere.
std::string difference(const std::vector<NamedTensor>& tensors, const SafetensorsReader& saved) {
  for (const NamedTensor& tensor : tensors) {
    if (!saved.contains(tensor.name)) return tensor.name + " (missing)";
    const std::vector<float> now = tensor.tensor.to_vector<float>();
    const std::vector<float> then = saved.tensor(tensor.name).to_vector<float>();
    if (now.size() != then.size()) return tensor.name + " (another shape)";
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (std::memcmp(&now[i], &then[i], sizeof(float)) != 0)
        return fmt::format("{} (element {}: {} now, {} then)", tensor.name, i, now[i], then[i]);
    }
  }
  return {};
}

/// What a replay from one checkpoint to the next made otherwise; empty: the same bits.
std::string replay(const ResumePoint& from, const ResumePoint& to, bool quiet) {
  FinetuneOptions options = saved_options(from);
  set_up_compute(options.model);
  bool there = false;
  options.train.stop = [&there] { return there || StopSignals::received() != 0; };
  RunSetup setup(options, from.folder);
  const auto model = setup.load_model(parse_device(options.model.device));
  const Lora lora = setup.attach(*model);
  Trainer trainer(*model, setup.options().train);
  load_run_state(from.folder, trainer);
  Progress progress(fmt::format("steps {} to {}", from.step + 1, to.step), to.step - from.step, "steps",
                    quiet);
  trainer.fit(setup.sources().train, setup.sources().validation(), [&](const StepReport& report) {
    there = report.step >= to.step;
    progress.update(report.step - from.step);
  });
  progress.finish();
  if (const int signal = StopSignals::received(); signal != 0)
    throw Interrupted(
        signal, fmt::format("stopped by {} at step {}", StopSignals::name(signal), trainer.state().step));
  const RunState now = trainer.state();
  const RunState then = read_run_state(to.folder);
  if (now.step != then.step) return fmt::format("the run ends at step {}", now.step);
  if (now.place != then.place) return "the place in the data";
  if (now.random_offset != then.random_offset) return "the random state";
  const std::string weight =
      difference(lora.parameters(), SafetensorsReader::open(to.folder / "adapter_model.safetensors"));
  if (!weight.empty()) return weight;
  return difference(trainer.optimizer().moments(), SafetensorsReader::open(to.folder / kOptimizerFileName));
}

void verify(const VerifyOptions& options) {
  const std::vector<ResumePoint> points = resume_points(options.run);
  require<UsageError>(points.size() >= 2,
                      "verify: {}: needs two checkpoints to replay from one to the next; got {}; train with "
                      "--save-every and --keep-checkpoints of at least 2",
                      options.run, points.size());
  const StopSignals signals;
  std::size_t broken = 0;
  for (std::size_t i = 0; i + 1 < points.size(); ++i) {
    const std::string difference = replay(points[i], points[i + 1], options.quiet);
    print_out("step {} to {}: {}\n", points[i].step, points[i + 1].step,
              difference.empty() ? "the bits agree" : "differs, first in " + difference);
    flush_output();
    if (!difference.empty()) ++broken;
  }
  require<Error>(broken == 0,
                 "verify: {} of {} replays differ; check that model, data, --threads and the machine's "
                 "instruction set are those of the run",
                 broken, points.size() - 1);
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command =
      app.add_subcommand("verify", "Replay a run from each checkpoint to the next and compare the bits");
  command->add_option("run", options->run, "Folder of the run (finetune's --output)")->required();
  command->add_flag("--quiet", options->quiet, "No progress bar");
  command->footer(
      "Example:\n  candela verify out/sql\n"
      "Model, data and options are those in each checkpoint's finetune.yaml; nothing is written. Status 1 "
      "where an adapter or a moment differs in a bit.");
  command->callback([&action, options] { action = [options] { verify(*options); }; });
}

}  // namespace candela::cli
