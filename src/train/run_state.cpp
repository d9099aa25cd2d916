#include <algorithm>
#include <bit>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>
#include <candela/train/run_state.h>

#include "io/json.h"
#include "io/json_text.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

/// Raised when a reader of an older state would go on to other bits.
constexpr std::int64_t kVersion = 1;

std::string to_json(const RunState& state, const std::string& base) {
  const auto whole = [](auto number) { return fmt::format("{}", number); };
  std::vector<io::JsonField> fields = {{"version", whole(kVersion)},
                                       {"base", io::json_quoted(base)},
                                       {"step", whole(state.step)},
                                       {"updates", whole(state.updates)},
                                       {"place", io::json_quoted(state.place)},
                                       {"random_offset", whole(state.random_offset)},
                                       {"tokens", whole(state.tokens)},
                                       {"trained_tokens", whole(state.trained_tokens)},
                                       {"skipped_in_a_row", whole(state.skipped_in_a_row)},
                                       {"seconds", io::json_number(state.seconds)},
                                       {"best_step", whole(state.best_step)},
                                       {"validations_without_gain", whole(state.validations_without_gain)}};
  if (state.best_validation) fields.emplace_back("best_validation", io::json_number(*state.best_validation));
  return io::json_object(fields) + "\n";
}

/// A whole number of at least 0.
std::int64_t count(const io::JsonObject& object, const char* key) {
  const io::Json& value = object.at(key);
  require<IoError>(value.is_number_unsigned() && value.get<std::uint64_t>() < (std::uint64_t{1} << 62U),
                   "{}: {} must be a whole number of at least 0; got {}", object.source(), key,
                   io::shown(value));
  return value.get<std::int64_t>();
}

double number(const io::JsonObject& object, const char* key) {
  const io::Json& value = object.at(key);
  require<IoError>(value.is_number(), "{}: {} must be a number; got {}", object.source(), key,
                   io::shown(value));
  return value.get<double>();
}

/// What trainer_state.json says.
struct SavedState {
  RunState state;
  /// base_fingerprint(); empty: written without one
  std::string base;
};

SavedState read_saved(const fs::path& folder) {
  const fs::path file = folder / kRunStateFileName;
  const auto document = io::load_json(file, {.max_bytes = std::size_t{1} << 24U, .max_depth = 8});
  const io::JsonObject object(document, file.string());
  SavedState saved;
  saved.base = object.string("base", "");
  const std::int64_t version = count(object, "version");
  require<IoError>(version == kVersion,
                   "{}: version must be {}; got {}; resume with the program that wrote it", file.string(),
                   kVersion, version);
  RunState& state = saved.state;
  state.step = count(object, "step");
  state.updates = count(object, "updates");
  const io::Json& place = object.at("place");
  require<IoError>(place.is_string(), "{}: place must be a text; got {}", file.string(), io::shown(place));
  state.place = place.get<std::string>();
  state.random_offset = static_cast<std::uint64_t>(count(object, "random_offset"));
  state.tokens = count(object, "tokens");
  state.trained_tokens = count(object, "trained_tokens");
  state.skipped_in_a_row = count(object, "skipped_in_a_row");
  state.seconds = number(object, "seconds");
  state.best_step = count(object, "best_step");
  state.validations_without_gain = count(object, "validations_without_gain");
  if (object.find("best_validation") != nullptr) state.best_validation = number(object, "best_validation");
  require<IoError>(state.updates <= state.step, "{}: updates must be at most step, {}; got {}", file.string(),
                   state.step, state.updates);
  return saved;
}

}  // namespace

std::string base_fingerprint(const Model& model) {
  constexpr std::int64_t kRows = 4;
  std::uint64_t hash = 0xcbf29ce484222325U;
  std::uint64_t bytes = 0;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3U; };
  const NoGrad guard;
  for (const NamedTensor& parameter : model.named_parameters()) {
    const Tensor& tensor = parameter.tensor;
    if (tensor.requires_grad()) continue;
    for (const char c : parameter.name) add(static_cast<unsigned char>(c));
    add(static_cast<std::uint64_t>(tensor.dtype()));
    for (const std::int64_t size : tensor.shape()) add(static_cast<std::uint64_t>(size));
    bytes += static_cast<std::uint64_t>(tensor.numel()) * size_of(tensor.dtype());
    if (tensor.numel() == 0 || tensor.rank() == 0) continue;
    const std::int64_t rows = std::min(kRows, tensor.size(0));
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t row = i * tensor.size(0) / rows;
      const Tensor values = to_device(cast(slice(tensor, 0, row, row + 1), DType::F32), Device::cpu());
      for (const float value : values.to_vector<float>()) add(std::bit_cast<std::uint32_t>(value));
    }
  }
  return fmt::format("{} bytes, {:016x}", bytes, hash);
}

void save_run_state(const fs::path& folder, const Trainer& trainer) {
  std::vector<std::pair<std::string, Tensor>> moments;
  for (NamedTensor& moment : trainer.optimizer().moments())
    moments.emplace_back(std::move(moment.name), std::move(moment.tensor));
  write_safetensors(folder / kOptimizerFileName, moments);
  write_file_atomically(folder / kRunStateFileName,
                        to_json(trainer.state(), base_fingerprint(trainer.model())));
}

RunState read_run_state(const fs::path& folder) {
  return read_saved(folder).state;
}

void load_run_state(const fs::path& folder, Trainer& trainer) {
  const SavedState saved = read_saved(folder);
  const RunState& state = saved.state;
  const std::string base = saved.base.empty() ? "" : base_fingerprint(trainer.model());
  require<IoError>(base == saved.base,
                   "{}: base must be that of the model's weights ({}); got {}: the run began with other "
                   "weights; give that model (--model)",
                   (folder / kRunStateFileName).string(), base, saved.base);
  const fs::path file = folder / kOptimizerFileName;
  const SafetensorsReader reader = SafetensorsReader::open(file);
  std::vector<NamedTensor> moments;
  for (const std::string& name : reader.names()) moments.push_back({name, reader.tensor(name)});
  try {
    trainer.optimizer().restore(moments, state.updates);
  } catch (const IoError& error) {
    throw IoError(fmt::format("{}: {}", file.string(), error.what()));
  }
  trainer.restore(state);
}

}  // namespace candela
