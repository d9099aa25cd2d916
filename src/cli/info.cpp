#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <memory>

#include <candela/io/config.h>
#include <candela/io/safetensors.h>
#include <candela/io/tokenizer.h>
#include <candela/models/model.h>

#include "cli/command.h"
#include "cli/progress.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct InfoOptions {
  std::string path;
  bool tensors = false;
};

void print_tensors(const SafetensorsReader& reader, bool each) {
  std::int64_t elements = 0;
  for (const std::string& name : reader.names()) {
    const SafetensorsEntry& entry = reader.entry(name);
    std::int64_t count = 1;
    for (const std::int64_t size : entry.shape) count *= size;
    elements += count;
    if (each) fmt::print("  {:<60} {:<5} [{}]\n", name, entry.dtype, fmt::join(entry.shape, ", "));
  }
  fmt::print("tensors         {} with {} elements, {} in {} file(s)\n", reader.names().size(),
             format_count(elements), format_bytes(static_cast<double>(reader.total_bytes())),
             reader.files().size());
}

void print_model(const fs::path& folder) {
  const ModelConfig config = ModelConfig::load(folder);
  const auto model = load_model(folder, {std::nullopt, Device::plan()});
  fmt::print("model_type      {}\n", config.model_type);
  fmt::print("parameters      {}\n", format_count(model->parameter_count()));
  fmt::print(
      "geometry        {} layers, hidden {}, MLP {}, {} query and {} key/value heads of {}, vocabulary {}\n",
      config.num_layers, config.hidden_size, config.intermediate_size, config.num_heads, config.num_kv_heads,
      config.head_dim, config.vocab_size);
  fmt::print("context         {} tokens, rope {} (theta {:g})\n", config.max_position_embeddings,
             config.rope.type, config.rope.theta);
  fmt::print("output layer    {}\n",
             config.tie_word_embeddings ? "tied to the embedding" : "its own weights");
  fmt::print("ends with       token {}\n", fmt::join(config.eos_token_ids, ", "));
  if (fs::exists(folder / "tokenizer.json")) {
    fmt::print("tokenizer       {} tokens\n", Tokenizer::load(folder).vocab_size());
  }
}

void info(const InfoOptions& options) {
  const fs::path path = options.path;
  require<IoError>(fs::exists(path), "{}: no such file or folder", options.path);
  if (fs::is_directory(path) && fs::exists(path / "config.json")) print_model(path);
  if (fs::exists(path / "adapter_model.safetensors")) {
    print_tensors(SafetensorsReader::open(path / "adapter_model.safetensors"), options.tensors);
  } else {
    print_tensors(SafetensorsReader::open(path), options.tensors);
  }
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command =
      app.add_subcommand("info", "Tell what a model folder, an adapter or a safetensors file holds");
  command->add_option("path", options->path, "Model folder, adapter folder, or safetensors file")->required();
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->footer("Example:\n  candela info models/stories-7m --tensors");
  command->callback([&action, options] { action = [options] { info(*options); }; });
}

}  // namespace candela::cli
