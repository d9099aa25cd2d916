#include "cli/model_options.h"

#include <algorithm>

#include <candela/core/parallel.h>
#include <candela/core/process.h>
#include <candela/ops/tuning.h>

#include "cli/options.h"
#include "cli/output.h"

namespace candela::cli {
namespace {

constexpr double kMostThreads = 1024;

/// Whether `name` is a device at all; whether it is there shows when it is used.
CLI::Validator device_name() {
  return CLI::Validator(
      [](const std::string& name) -> std::string {
        try {
          parse_device(name);
          return {};
        } catch (const Error& error) {
          return error.what();
        }
      },
      "");
}

void declare_model(CLI::App& command, ModelOptions& options) {
  add_path(command, "--model", options.model,
           "Hugging Face folder (config.json, model.safetensors, tokenizer.json), or a name of the Hub that "
           "`candela pull` has fetched")
      ->required();
}

}  // namespace

void declare_compute_options(CLI::App& command, ComputeOptions& options) {
  command
      .add_option("--device", options.device,
                  "Where to run, auto: the first GPU, else the CPU; `candela devices` lists what there is")
      ->check(device_name())
      ->capture_default_str();
  add_number(command, "--threads", options.threads, {0, kMostThreads},
             "CPU threads; 0: as OMP_NUM_THREADS says, or every core");
  command.add_flag("--tune", options.tune,
                   "Measure the implementations of an op when it first meets a size, run the fastest, and "
                   "keep what was measured for later runs ($CANDELA_CACHE or ~/.cache/candela)");
}

void declare_arithmetic(CLI::App& command, ModelOptions& options) {
  add_choice(command, "--dtype", options.dtype, {"auto", "f32", "bf16", "f16"},
             "Weights and arithmetic; auto: f32 on the CPU, else as stored");
  declare_compute_options(command, options);
}

void declare_base_model(CLI::App& command, ModelOptions& options) {
  declare_model(command, options);
  declare_arithmetic(command, options);
}

void declare_model_files(CLI::App& command, ModelOptions& options) {
  declare_model(command, options);
  add_path(command, "--adapter", options.adapter, "peft folder with a LoRA adapter to put on the model");
  declare_arithmetic(command, options);
}

void declare_model_options(CLI::App& command, ModelOptions& options) {
  declare_model_files(command, options);
  command.add_flag("--bf16-rope", options.bf16_rope,
                   "Round the rotary frequencies to bf16, as a model does that was cast to bf16 as a whole");
}

std::optional<DType> wanted_dtype(const ModelOptions& options, bool computing) {
  if (options.dtype != "auto") return parse_dtype(options.dtype);
  if (computing && parse_device(options.device).type == DeviceType::Cpu) return DType::F32;
  return std::nullopt;
}

LoadOptions load_options(const ModelOptions& options, bool computing, Device device) {
  return {wanted_dtype(options, computing), device, options.bf16_rope};
}

void use_threads(int asked) {
  static const int unasked = thread_count();  // before anything set it: OMP_NUM_THREADS, or every core
  const int cores = usable_cpus();
  if (asked > cores) note(fmt::format("--threads {}: using the {} cores that there are", asked, cores));
  set_thread_count(std::min(asked > 0 ? asked : unasked, cores));
}

void set_up_compute(const ComputeOptions& options) {
  use_threads(options.threads);
  const Device device = parse_device(options.device);
  if (options.device == "auto" && device.type != DeviceType::Cpu)
    note(fmt::format("running on {}, {}; --device cpu stays on the CPU", device,
                     device_interface(device).description()));
  if (options.tune) enable_tuning();
}

LoadedModel load(const ModelOptions& options, bool computing) {
  set_up_compute(options);
  LoadedModel loaded;
  loaded.model = load_model(options.model, load_options(options, computing, parse_device(options.device)));
  if (!options.adapter.empty()) {
    loaded.lora = Lora::load(*loaded.model, options.adapter);
    for (const std::string& text : loaded.lora->notes()) note(text);
  }
  return loaded;
}

}  // namespace candela::cli
