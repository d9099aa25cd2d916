#include <filesystem>
#include <fmt/ranges.h>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include <candela/core/atomic_file.h>
#include <candela/embed/embedder.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>

#include "cli/command.h"
#include "cli/embed_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct EmbedCommand {
  EmbedderFlags embedder;
  std::vector<std::string> inputs;
  std::string ids;
  std::string output;
  std::string format = "auto";
  std::string field = "text";
  bool quiet = false;
};

/// How the embeddings are written: as --format says, or as the end of the file's name.
std::string format_of(const EmbedCommand& command) {
  if (command.format != "auto") return command.format;
  const std::string end = fs::path(command.output).extension().string();
  if (end == ".safetensors") return "safetensors";
  if (end == ".npy") return "npy";
  return "jsonl";
}

/// The NumPy format, version 1.0: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
std::string npy_bytes(const Tensor& embeddings) {
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                                   embeddings.size(0), embeddings.size(1));
  constexpr std::size_t kFront = 10;
  constexpr std::size_t kAlignment = 64;
  header.append(kAlignment - (kFront + header.size() + 1) % kAlignment, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xFFU);
  bytes += static_cast<char>(header.size() >> 8U);
  bytes += header;
  const std::vector<float> values = embeddings.to_vector<float>();
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return bytes;
}

/// One object a line: the text's number, the text, its embedding.
std::string jsonl_text(const Tensor& embeddings, const std::vector<std::string>& texts) {
  std::string lines;
  const std::vector<float> values = embeddings.to_vector<float>();
  const auto width = static_cast<std::size_t>(embeddings.size(1));
  for (std::size_t i = 0; i < static_cast<std::size_t>(embeddings.size(0)); ++i) {
    lines += fmt::format("{{\"id\": {}", i);
    if (!texts.empty()) {
      lines += ", \"text\": " +
               nlohmann::json(texts[i]).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(i * width);
    lines += fmt::format(", \"embedding\": [{}]}}\n",
                         fmt::join(first, first + static_cast<std::ptrdiff_t>(width), ", "));
  }
  return lines;
}

void write_embeddings(const EmbedCommand& command, const Tensor& embeddings,
                      const std::vector<std::string>& texts, const std::optional<Tensor>& last_hidden_state) {
  const std::string format = format_of(command);
  if (format == "safetensors") {
    std::vector<std::pair<std::string, Tensor>> tensors = {{"embeddings", embeddings}};
    if (last_hidden_state) tensors.emplace_back("last_hidden_state", *last_hidden_state);
    write_safetensors(command.output, tensors);
    return;
  }
  const std::string bytes = format == "npy" ? npy_bytes(embeddings) : jsonl_text(embeddings, texts);
  if (command.output.empty()) {
    write_output(bytes);
  } else {
    write_file_atomically(command.output, bytes);
  }
}

/// Rows of token ids, and where each stands in the file's matrix.
struct IdRows {
  std::vector<std::vector<TokenId>> rows;
  std::vector<std::vector<std::int64_t>> columns;
  std::int64_t width = 0;
};

/// `input_ids` [N, T] of a safetensors file, but for what `attention_mask` (optional) says is padding.
IdRows read_id_rows(const std::string& path, std::int64_t vocab_size) {
  const SafetensorsReader reader = SafetensorsReader::open(path);
  const auto matrix = [&](const char* name) {
    require<IoError>(reader.contains(name), "{}: needs a tensor {} [N, T]", path, name);
    const Tensor stored = reader.tensor(name);
    require<IoError>(!is_floating(stored.dtype()) && stored.rank() == 2,
                     "{}: {} must be [N, T] in an integer dtype; got {}", path, name, stored);
    return stored;
  };
  const Tensor ids = matrix("input_ids");
  std::vector<std::int64_t> mask(static_cast<std::size_t>(ids.numel()), 1);
  if (reader.contains("attention_mask")) {
    const Tensor stored = matrix("attention_mask");
    require<IoError>(stored.shape() == ids.shape(), "{}: attention_mask must be {} as input_ids; got {}",
                     path, ids.shape(), stored.shape());
    mask = cast(stored, DType::I64).to_vector<std::int64_t>();
  }
  const std::vector<std::int64_t> values = cast(ids, DType::I64).to_vector<std::int64_t>();
  IdRows result;
  result.width = ids.size(1);
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    std::vector<TokenId> tokens;
    std::vector<std::int64_t> columns;
    for (std::int64_t column = 0; column < result.width; ++column) {
      const auto at = static_cast<std::size_t>(row * result.width + column);
      if (mask[at] == 0) continue;
      require<IoError>(values[at] >= 0 && values[at] < vocab_size,
                       "{}: input_ids must be in [0, {}); got {} at [{}, {}]", path, vocab_size, values[at],
                       row, column);
      tokens.push_back(static_cast<TokenId>(values[at]));
      columns.push_back(column);
    }
    require<IoError>(!tokens.empty(), "{}: attention_mask leaves no token of row {}", path, row);
    result.rows.push_back(std::move(tokens));
    result.columns.push_back(std::move(columns));
  }
  return result;
}

void embed_ids(const EmbedCommand& command, const Embedder& embedder, const EmbedOptions& options) {
  const IdRows ids = read_id_rows(command.ids, embedder.model().config().vocab_size);
  const Tensor embeddings = embedder.embed_ids(ids.rows, options);
  const std::vector<Tensor> states = embedder.hidden_states(ids.rows, options);
  // Padding has no state: nothing was computed for it.
  const std::int64_t hidden = embedder.model().config().hidden_size;
  std::vector<float> whole(ids.rows.size() * static_cast<std::size_t>(ids.width * hidden), 0.0F);
  for (std::size_t row = 0; row < states.size(); ++row) {
    const std::vector<float> values = states[row].to_vector<float>();
    for (std::size_t t = 0; t < ids.columns[row].size(); ++t) {
      const auto from = values.begin() + static_cast<std::ptrdiff_t>(t) * hidden;
      const auto to = (static_cast<std::int64_t>(row) * ids.width + ids.columns[row][t]) * hidden;
      std::copy(from, from + hidden, whole.begin() + to);
    }
  }
  const auto rows = static_cast<std::int64_t>(ids.rows.size());
  write_embeddings(command, embeddings, {}, Tensor::from_values(whole, {rows, ids.width, hidden}));
}

void embed(const EmbedCommand& command) {
  require(command.ids.empty() || command.inputs.empty(),
          "embed: --ids and files of texts exclude each other; give one of them");
  require(command.ids.empty() || format_of(command) == "safetensors",
          "embed: --ids writes a safetensors file; give it as --output");
  require(format_of(command) == "jsonl" || !command.output.empty(), "embed: --format {} needs an --output",
          format_of(command));
  const Embedder embedder = load_embedder(command.embedder);
  EmbedOptions options = embed_options(command.embedder);
  if (!command.ids.empty()) return embed_ids(command, embedder, options);
  const std::vector<std::string> texts = read_texts(command.inputs, command.field);
  Progress progress("embed", static_cast<std::int64_t>(texts.size()), "texts",
                    command.quiet || command.output.empty());
  options.progress = [&](std::int64_t done) { progress.update(done); };
  std::int64_t cut = 0;
  const Tensor embeddings = embedder.embed(texts, options, &cut);
  progress.finish();
  if (cut > 0)
    note(fmt::format("{} of {} texts were longer than {} tokens and cut", cut, texts.size(),
                     embedder.config().max_tokens));
  write_embeddings(command, embeddings, texts, std::nullopt);
}

}  // namespace

void add_embed(CLI::App& app, Action& action) {
  auto options = std::make_shared<EmbedCommand>();
  CLI::App* command = app.add_subcommand("embed", "Turn texts into vectors");
  declare_embedder(*command, options->embedder);
  command->add_option("files", options->inputs,
                      "Files with one text a line, or .jsonl files; none: standard input");
  add_path(*command, "--ids", options->ids,
           "safetensors file with input_ids [N, T] and, optionally, attention_mask, instead of texts; also "
           "writes last_hidden_state [N, T, D], zero at padding");
  add_path(*command, "--output", options->output,
           "File to write; none: JSONL to standard output. safetensors: tensor embeddings [N, D] f32");
  add_choice(*command, "--format", options->format, {"auto", "jsonl", "safetensors", "npy"},
             "auto: by the end of --output's name");
  command->add_option("--field", options->field, "Field of a .jsonl file that holds the text")
      ->capture_default_str();
  command->add_flag("--quiet", options->quiet, "No progress");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela embed --model DIR --output vectors.safetensors sentences.txt\n"
      "DIR is a folder as sentence-transformers writes it, or a model alone: then the mean over tokens (the "
      "last token of a decoder), normalised.");
  command->callback([&action, options] { action = [options] { embed(*options); }; });
}

}  // namespace candela::cli
