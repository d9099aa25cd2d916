#include <filesystem>
#include <fmt/format.h>
#include <memory>
#include <span>

#include <candela/core/atomic_file.h>
#include <candela/core/grad.h>
#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/loss.h>

#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "models/values.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct LogitsOptions {
  ModelOptions model;
  std::string input;
  std::string output;
};

/// Mean cross entropy over the targets that count, f32 [1].
Tensor mean_loss(const Model& model, const Tensor& hidden, const Tensor& labels) {
  const Tensor targets = shift_labels(labels);
  std::int64_t counted = 0;
  for (const std::int64_t target : cast(targets, DType::I64).to_vector<std::int64_t>())
    counted += target != kIgnoreIndex ? 1 : 0;
  require(counted > 0,
          "logits: no label counts: but for the first of each row, which nothing predicts, all are {}",
          kIgnoreIndex);
  return affine(model.loss(hidden, targets), 1.0 / static_cast<double>(counted), 0);
}

/// The tensor `name` [B, T] as i32; every value must be a token of the vocabulary or, if `ignorable`,
/// kIgnoreIndex.
Tensor read_ids(const SafetensorsReader& input, const std::string& name, std::int64_t vocab_size,
                bool ignorable) {
  const std::string where = input.files().front().string() + ": " + name;
  const Tensor stored = input.tensor(name);
  require<IoError>(!is_floating(stored.dtype()), "{}: must have an integer dtype (I64, I32, U8); got {}",
                   where, input.entry(name).dtype);
  require<IoError>(stored.rank() == 2, "{}: must be [B, T]; got {}", where, stored.shape());
  const std::vector<std::int64_t> values = cast(stored, DType::I64).to_vector<std::int64_t>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool fits = (values[i] >= 0 && values[i] < vocab_size) || (ignorable && values[i] == kIgnoreIndex);
    require<IoError>(fits, "{}: must be in [0, {}){}; got {} at element {}", where, vocab_size,
                     ignorable ? fmt::format(" or {}", kIgnoreIndex) : "", values[i], i);
  }
  return cast(stored, DType::I32);
}

/// The output is written in place of what is there: it must be nothing that was read.
void check_output(const LogitsOptions& options) {
  std::error_code error;
  require(!fs::equivalent(options.output, options.input, error), "{}: is the input; choose another --output",
          options.output);
  check_replaceable(options.output);
  const fs::path folder = fs::weakly_canonical(fs::absolute(options.output)).parent_path();
  for (const std::string& read : {options.model.model, options.model.adapter}) {
    require(read.empty() || !fs::equivalent(folder, local_path(read), error),
            "{}: lies in {}, which is read here; choose another --output", options.output, read);
  }
}

/// What a broken model gives must not pass for a result.
void check_finite(const Tensor& result, const char* name, const Model& model) {
  const NamedTensor named{name, result};
  const std::string bad = first_non_finite(std::span(&named, 1));
  require<Error>(bad.empty(), "logits: the model gave no finite {}: {}", bad, broken_part(model));
}

void logits(const LogitsOptions& options) {
  check_output(options);
  const NoGrad guard;
  const SafetensorsReader input = SafetensorsReader::open(options.input);
  require<IoError>(input.contains("input_ids"), "{}: needs a tensor input_ids [B, T]", options.input);
  const LoadedModel loaded = load(options.model);
  const Device device = loaded.model->device();
  const std::int64_t vocab_size = loaded.model->config().vocab_size;
  const Tensor ids = read_ids(input, "input_ids", vocab_size, false);
  const std::int64_t context = loaded.model->config().max_position_embeddings;
  if (context > 0 && ids.size(1) > context)
    note(
        fmt::format("rows of {} ids are longer than the model's context of {} tokens", ids.size(1), context));
  const Tensor hidden = loaded.model->forward_hidden(to_device(ids, device));
  std::vector<std::pair<std::string, Tensor>> results = {
      {"logits", cast(loaded.model->logits(hidden), DType::F32)}};
  if (input.contains("labels")) {
    const Tensor labels = read_ids(input, "labels", vocab_size, true);
    require<IoError>(labels.shape() == ids.shape(), "{}: labels must be {} as input_ids; got {}",
                     options.input, ids.shape(), labels.shape());
    results.emplace_back("loss", mean_loss(*loaded.model, hidden, to_device(labels, device)));
  }
  for (const auto& [name, tensor] : results) check_finite(tensor, name.c_str(), *loaded.model);
  write_safetensors(options.output, results);
}

}  // namespace

void add_logits(CLI::App& app, Action& action) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* command = app.add_subcommand("logits", "Write the logits (and loss) of given token ids");
  declare_model_options(*command, options->model);
  add_path(*command, "--input", options->input,
           "safetensors file with input_ids [B, T] and, optionally, labels [B, T] (-100: not counted)")
      ->required();
  add_path(*command, "--output", options->output,
           "safetensors file to write: logits f32 [B, T, V], loss f32 [1]; not a file that is read here")
      ->required();
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela logits --model models/stories-7m --input ids.safetensors --output "
      "out.safetensors\n"
      "Labels are those of the same positions as the ids; the shift by one is made here.");
  command->callback([&action, options] { action = [options] { logits(*options); }; });
}

}  // namespace candela::cli
