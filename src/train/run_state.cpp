#include <nlohmann/json.hpp>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/io/safetensors.h>
#include <candela/train/run_state.h>

#include "io/json.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

/// Raised when a reader of an older state would go on to other bits.
constexpr std::int64_t kVersion = 1;

nlohmann::json to_json(const RunState& state) {
  nlohmann::json json = {{"version", kVersion},
                         {"step", state.step},
                         {"updates", state.updates},
                         {"place", state.place},
                         {"random_offset", state.random_offset},
                         {"tokens", state.tokens},
                         {"trained_tokens", state.trained_tokens},
                         {"skipped_in_a_row", state.skipped_in_a_row},
                         {"seconds", state.seconds},
                         {"best_step", state.best_step},
                         {"validations_without_gain", state.validations_without_gain}};
  if (state.best_validation) json["best_validation"] = *state.best_validation;
  return json;
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

}  // namespace

void save_run_state(const fs::path& folder, const Trainer& trainer) {
  std::vector<std::pair<std::string, Tensor>> moments;
  for (NamedTensor& moment : trainer.optimizer().moments())
    moments.emplace_back(std::move(moment.name), std::move(moment.tensor));
  write_safetensors(folder / kOptimizerFileName, moments);
  write_file_atomically(folder / kRunStateFileName, to_json(trainer.state()).dump(2) + "\n");
}

RunState read_run_state(const fs::path& folder) {
  const fs::path file = folder / kRunStateFileName;
  const auto document = io::load_json(file, {.max_bytes = std::size_t{1} << 24U, .max_depth = 8});
  const io::JsonObject object(document, file.string());
  const std::int64_t version = count(object, "version");
  require<IoError>(version == kVersion,
                   "{}: version must be {}; got {}; resume with the program that wrote it", file.string(),
                   kVersion, version);
  RunState state;
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
  return state;
}

void load_run_state(const fs::path& folder, Trainer& trainer) {
  const RunState state = read_run_state(folder);
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
