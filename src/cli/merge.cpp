#include <filesystem>
#include <fmt/format.h>
#include <memory>

#include <candela/core/parallel.h>
#include <candela/io/safetensors.h>

#include "cli/command.h"
#include "cli/model_options.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct MergeOptions {
  ModelOptions model;
  std::string output;
};

void merge(const MergeOptions& options) {
  const fs::path output = options.output;
  require(!fs::exists(output / "model.safetensors"), "{}: exists already; choose another --output",
          (output / "model.safetensors").string());
  require(!options.model.adapter.empty(), "merge: needs --adapter");
  LoadedModel loaded = load(options.model);
  loaded.lora->merge(false);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const NamedTensor& parameter : loaded.model->named_parameters())
    tensors.emplace_back(parameter.name, parameter.tensor.detach());
  fs::create_directories(output);
  write_safetensors(output / "model.safetensors", tensors);
  // Everything but the weights and their index belongs to the merged model unchanged.
  for (const auto& entry : fs::directory_iterator(options.model.model)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.ends_with(".safetensors") || name.ends_with(".index.json") ||
        name.ends_with(".bin"))
      continue;
    fs::copy_file(entry.path(), output / name, fs::copy_options::overwrite_existing);
  }
  fmt::print("merged {} into {}: {} tensors in {}\n", options.model.adapter, options.model.model,
             tensors.size(), output.string());
}

}  // namespace

void add_merge(CLI::App& app, Action& action) {
  auto options = std::make_shared<MergeOptions>();
  CLI::App* command = app.add_subcommand("merge", "Write a model with its adapter merged into the weights");
  declare_model_options(*command, options->model, true);
  command->add_option("--output", options->output, "Folder for the merged model")->required();
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela merge --model models/stories-7m --adapter out/sql --output out/sql-merged\n"
      "The product is formed in f32 and rounded once to the weights' dtype.");
  command->callback([&action, options] { action = [options] { merge(*options); }; });
}

}  // namespace candela::cli
