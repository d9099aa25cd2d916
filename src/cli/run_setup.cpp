#include "cli/run_setup.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include <candela/core/device.h>
#include <candela/io/tokenizer.h>
#include <candela/models/config.h>

#include "cli/batch_report.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

/// Also fills in the pad id and how rows are packed, which the batches are made with.
RunData load_data(FinetuneOptions& options) {
  const ModelConfig config = ModelConfig::load(options.model.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model.model);
  options.train.pad_id = static_cast<std::int32_t>(config.pad_token_id.value_or(0));
  DatasetOptions rows = dataset_options(options.rows, tokenizer, config, options.model.model);
  rows.seed = options.train.seed;
  const DatasetFiles files = DatasetFiles::find(options.data);
  RunData data{
      Dataset::load(files.train, tokenizer, rows), std::nullopt, chat_record_of(rows, tokenizer), 0, {}};
  if (options.valid_split > 0) {
    require<UsageError>(files.valid.empty(),
                        "--valid-split: {} is there to validate on; leave one of them out",
                        files.valid.empty() ? "" : files.valid[0].path.string());
    data.valid = data.train.hold_out(options.valid_split, options.train.seed);
  } else if (!options.valid.empty()) {
    data.valid = Dataset::load(DatasetFiles::find(options.valid).train, tokenizer, rows);
  } else if (!files.valid.empty()) {
    data.valid = Dataset::load(files.valid, tokenizer, rows);
  }
  TrainOptions& train = options.train;
  const std::int64_t usual =
      usual_pack_length(options.rows.max_length, config, data.train.statistics.longest);
  data.batch_rows = train.batch_size;
  const auto there = static_cast<std::int64_t>(data.train.samples.size());
  if (train.batch_size > there)
    note(fmt::format("--batch-size {}: a batch takes the {} rows that there are", train.batch_size,
                     format_count(there)));
  data.other =
      packed_options(train, options.pack_length > 0 ? options.pack_length : usual, data.train.statistics);
  if (options.packing) std::swap(train, data.other);
  const auto needs_validation = [&](const char* option, bool asked) {
    require<UsageError>(data.valid || !asked,
                        "{}: there is nothing to validate on; give --valid, --valid-split, or a "
                        "valid.jsonl beside train.jsonl",
                        option);
  };
  needs_validation("--validate-every", train.validate_every > 0);
  needs_validation("--validate-first", train.validate_first);
  needs_validation("--patience", train.patience > 0);
  needs_validation("--keep-best", options.keep_best);
  return data;
}

}  // namespace

RunSetup::RunSetup(FinetuneOptions options, std::filesystem::path checkpoint)
    : options_(std::move(options)),
      checkpoint_(std::move(checkpoint)),
      data_(load_data(options_)),
      sources_(data_, options_.train) {}

std::unique_ptr<Model> RunSetup::load_model(Device device) const {
  return candela::load_model(options_.model.model, load_options(options_.model, true, device));
}

Lora RunSetup::attach(Model& model) const {
  if (!checkpoint_.empty()) return Lora::load(model, checkpoint_, true);
  return options_.model.adapter.empty() ? Lora::attach(model, options_.lora, options_.train.seed)
                                        : Lora::load(model, options_.model.adapter, true);
}

RunSetup::Planned RunSetup::plan() {
  Planned planned;
  const Device asked = parse_device(options_.model.device);
  const std::vector<Device> devices = available_devices();
  const bool there = std::find(devices.begin(), devices.end(), asked) != devices.end();
  // A run ends here, with the device's own error.
  if (!options_.plan_only) static_cast<void>(device_interface(asked));
  if (!there)
    note(fmt::format(
        "{} is not on this machine: what its kernels take beside tensors is planned as the CPU's, "
        "and whether it fits is not checked",
        options_.model.device));
  const Device target = there ? asked : Device::cpu();
  const auto prepare = [&]() -> Model& {
    planned.model = load_model(Device::plan(target));
    planned.lora = attach(*planned.model);
    for (const std::string& text : planned.lora->notes()) note(text);
    sources_.train.check(planned.model->config().vocab_size);
    return *planned.model;
  };
  planned.memory = plan_memory(prepare, options_.train, sources_.train, sources_.validation(), target);
  if (!there) planned.memory.available = 0;
  return planned;
}

}  // namespace candela::cli
