#include "cli/model_options.h"

#include <candela/core/parallel.h>

namespace candela::cli {

void declare_model_options(CLI::App& command, ModelOptions& options, bool with_adapter) {
  command
      .add_option("--model", options.model,
                  "Hugging Face folder: config.json, model.safetensors, tokenizer.json")
      ->required();
  if (with_adapter)
    command.add_option("--adapter", options.adapter, "peft folder with a LoRA adapter to put on the model");
  command
      .add_option(
          "--dtype", options.dtype,
          "Weights and arithmetic: f32, bf16, f16, or auto (training on the CPU: f32; else as stored)")
      ->capture_default_str();
  command.add_option("--device", options.device, "Where to run; `candela devices` lists what there is")
      ->capture_default_str();
  command.add_option("--threads", options.threads, "CPU threads; 0: every core")->capture_default_str();
}

std::optional<DType> wanted_dtype(const ModelOptions& options, bool training) {
  if (options.dtype != "auto") return parse_dtype(options.dtype);
  if (training && parse_device(options.device).type == DeviceType::Cpu) return DType::F32;
  return std::nullopt;
}

LoadedModel load(const ModelOptions& options) {
  set_thread_count(options.threads);
  LoadedModel loaded;
  loaded.model = load_model(options.model,
                            {wanted_dtype(options, false), parse_device(options.device), options.bf16_rope});
  if (!options.adapter.empty()) {
    loaded.lora = Lora::load(*loaded.model, options.adapter);
    for (const std::string& note : loaded.lora->notes()) fmt::print(stderr, "candela: note: {}\n", note);
  }
  return loaded;
}

}  // namespace candela::cli
