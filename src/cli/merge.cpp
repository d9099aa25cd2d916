#include <memory>

#include <candela/embed/embedder.h>
#include <candela/io/hub_cache.h>
#include <candela/models/save.h>

#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "embed/folder.h"

namespace candela::cli {
namespace {

struct MergeOptions {
  ModelOptions model;
  std::string output;
};

/// A folder of sentence-transformers stays one.
void merge_embedder(const MergeOptions& options) {
  set_up_compute(options.model);
  Embedder embedder = Embedder::load(options.model.model,
                                     load_options(options.model, false, parse_device(options.model.device)));
  Lora lora = Lora::load(embedder.model(), options.model.adapter);
  for (const std::string& text : lora.notes()) note(text);
  embedder.check_save(options.output);
  lora.merge(false);
  embedder.save(options.output);
  print_out("merged {} into {}: {} tensors in {}\n", options.model.adapter, options.model.model,
            embedder.model().named_parameters().size(), options.output);
}

void merge(const MergeOptions& options) {
  if (is_sentence_folder(local_path(options.model.model))) return merge_embedder(options);
  LoadedModel loaded = load(options.model, false);
  check_save_model(*loaded.model, options.output, options.model.model);
  loaded.lora->merge(false);
  save_model(*loaded.model, options.output, options.model.model);
  print_out("merged {} into {}: {} tensors in {}\n", options.model.adapter, options.model.model,
            loaded.model->named_parameters().size(), options.output);
}

}  // namespace

void add_merge(CLI::App& app, Action& action) {
  auto options = std::make_shared<MergeOptions>();
  CLI::App* command = app.add_subcommand("merge", "Write a model with its adapter merged into the weights");
  declare_model_files(*command, options->model);
  find_option(*command, "--adapter")->required();
  find_option(*command, "--dtype")->description("Weights of the merged model; auto: as the model is stored");
  add_path(*command, "--output", options->output, "Folder for the merged model")->required();
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela merge --model models/stories-7m --adapter out/sql --output out/sql-merged\n"
      "The product is formed in f32 and rounded once to the weights' dtype.");
  command->callback([&action, options] { action = [options] { merge(*options); }; });
}

}  // namespace candela::cli
