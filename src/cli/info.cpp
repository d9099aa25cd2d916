#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <memory>
#include <vector>

#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>
#include <candela/io/tokenizer.h>
#include <candela/models/config.h>
#include <candela/models/model.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/json.h"
#include "io/missing.h"
#include "lora/adapter_file.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct InfoOptions {
  std::string path;
  bool tensors = false;
};

/// The product of the sizes; nothing where it is beyond 2^63.
std::optional<std::int64_t> count_of(const std::vector<std::int64_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (count > std::numeric_limits<std::int64_t>::max() / size) return std::nullopt;
    count *= size;
  }
  return count;
}

/// "BF16", or "BF16 (290 tensors), F32 (2)", the most frequent first.
std::string described_dtypes(const std::map<std::string, std::size_t>& dtypes) {
  std::vector<std::pair<std::string, std::size_t>> order(dtypes.begin(), dtypes.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (order.size() == 1) return escaped_name(order[0].first);
  std::string text;
  for (const auto& [dtype, count] : order)
    text += fmt::format("{}{} ({}{})", text.empty() ? "" : ", ", escaped_name(dtype), count,
                        text.empty() ? " tensors" : "");
  return text;
}

void print_tensors(const SafetensorsReader& reader, bool each) {
  std::int64_t elements = 0;
  bool counted = true;
  std::map<std::string, std::size_t> dtypes;
  for (const std::string& name : reader.names()) {
    const SafetensorsEntry& entry = reader.entry(name);
    ++dtypes[entry.dtype];
    const std::optional<std::int64_t> count = count_of(entry.shape);
    counted = counted && count && elements <= std::numeric_limits<std::int64_t>::max() - *count;
    if (counted) elements += *count;
    if (each)
      print_out("  {:<60} {:<5} [{}]\n", escaped_name(name), escaped_name(entry.dtype),
                fmt::join(entry.shape, ", "));
  }
  print_out("dtype           {}\n", dtypes.empty() ? "no tensors" : described_dtypes(dtypes));
  print_out("tensors         {} with {} elements, {} in {} file(s)\n", reader.names().size(),
            counted ? format_count(elements) : "more than 2^63",
            format_bytes(static_cast<double>(reader.total_bytes())), reader.files().size());
}

void print_model(const fs::path& folder) {
  const ModelConfig config = ModelConfig::load(folder);
  const auto model = load_model(folder, {std::nullopt, Device::plan()});
  print_out("model_type      {}\n", escaped_name(config.model_type));
  print_out("parameters      {}\n", format_count(model->parameter_count()));
  print_out(
      "geometry        {} layers, hidden {}, MLP {}, {} query and {} key/value heads of {}, vocabulary {}\n",
      config.num_layers, config.hidden_size, config.intermediate_size, config.num_heads, config.num_kv_heads,
      config.head_dim, config.vocab_size);
  print_out("context         {} tokens, rope {} (theta {:g})\n", config.max_position_embeddings,
            escaped_name(config.rope.type), config.rope.theta);
  print_out("output layer    {}\n", config.tie_word_embeddings ? "tied to the embedding" : "its own weights");
  print_out("ends with       {}\n", config.eos_token_ids.empty()
                                        ? "no token"
                                        : fmt::format("token {}", fmt::join(config.eos_token_ids, ", ")));
  std::error_code error;
  if (fs::exists(folder / "tokenizer.json", error))
    print_out("tokenizer       {} tokens\n", Tokenizer::load(folder).vocab_size());
}

std::string describe(const ModuleFilter& filter) {
  std::string text = fmt::format("{}", fmt::join(filter.names, ", "));
  if (!filter.pattern.empty())
    text += (text.empty() ? "" : ", ") + fmt::format("layers that match {}", filter.pattern);
  return escaped_name(text);
}

void print_adapter(const fs::path& folder) {
  const std::string file = (folder / "adapter_config.json").string();
  const AdapterConfigText found = find_adapter_config(folder);
  if (!found.note.empty()) note(found.note);
  const std::string& text = found.text;
  const LoraConfig config = parse_adapter_config(text, file);
  const std::string base = parse_base_model(text, file);
  print_out("adapter         LoRA, rank {}, alpha {:g}, scale {:g}{}\n", config.rank, config.alpha,
            config.scale_of(""), config.use_rslora ? " (rsLoRA: alpha / sqrt(rank))" : " (alpha / rank)");
  for (const auto& [pattern, rank] : config.rank_pattern)
    print_out("  rank          {} for {}\n", rank, escaped_name(pattern));
  for (const auto& [pattern, alpha] : config.alpha_pattern)
    print_out("  alpha         {:g} for {}\n", alpha, escaped_name(pattern));
  print_out("targets         {}\n", describe(config.targets));
  if (!config.excluded.empty()) print_out("excluded        {}\n", describe(config.excluded));
  if (!config.layers.empty()) print_out("blocks          {}\n", fmt::join(config.layers, ", "));
  if (config.dropout > 0) print_out("dropout         {:g}\n", config.dropout);
  print_out("base model      {}\n", base.empty() ? "not recorded" : escaped_name(base));
}

void info(const InfoOptions& options) {
  const fs::path path = local_path(options.path);
  std::error_code error;
  std::string why;
  const bool there = io::is_there(path, why);
  require<IoError>(why.empty(), "{}: {}", options.path, why);
  require<IoError>(there, "{}: no such file or folder; check the path", options.path);
  if (fs::exists(path / "adapter_config.json", error) || is_own_adapter(path)) {
    print_adapter(path);
    print_tensors(SafetensorsReader::open(path / "adapter_model.safetensors"), options.tensors);
    return;
  }
  if (fs::is_directory(path, error) && fs::exists(path / "config.json", error)) print_model(path);
  print_tensors(SafetensorsReader::open(path), options.tensors);
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command =
      app.add_subcommand("info", "Tell what a model folder, an adapter or a safetensors file holds");
  add_path(*command, "path", options->path, "Model folder, adapter folder, or safetensors file")->required();
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->footer("Example:\n  candela info models/stories-7m --tensors");
  command->callback([&action, options] { action = [options] { info(*options); }; });
}

}  // namespace candela::cli
