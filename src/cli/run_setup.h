#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include <candela/io/dataset.h>
#include <candela/lora/lora.h>
#include <candela/train/memory_plan.h>
#include <candela/train/trainer.h>

#include "cli/chat_record.h"
#include "cli/finetune_options.h"

/// A fine-tuning run made ready, for `finetune` and `verify` alike.
namespace candela::cli {

struct RunData {
  Dataset train;
  std::optional<Dataset> valid;
  /// how its texts are written
  ChatRecord chat;
  /// of validation
  std::int64_t batch_rows = 0;
  /// How the run would be without packing if it packs, and with packing if not.
  TrainOptions other;
};

/// Where the batches come from; refers to the samples of a RunData.
struct RunSources {
  SampleSource train;
  std::optional<ValidationSource> valid;

  RunSources(const RunData& data, const TrainOptions& options) : train(data.train.samples, options) {
    if (data.valid) valid.emplace(data.valid->samples, data.batch_rows, options.pad_id);
  }
  BatchSource* validation() { return valid ? &*valid : nullptr; }
};

/// Model, data and adapters as the options say; `checkpoint`, if not empty, is what the run goes on from.
class RunSetup {
 public:
  /// Reads the data. Throws as Dataset::load, and UsageError for options that do not fit the data.
  RunSetup(FinetuneOptions options, std::filesystem::path checkpoint);

  const FinetuneOptions& options() const { return options_; }
  const RunData& data() const { return data_; }
  RunSources& sources() { return sources_; }

  struct Planned {
    /// on Device::plan()
    std::unique_ptr<Model> model;
    std::optional<Lora> lora;
    MemoryPlan memory;
  };
  /// Plans the run's memory; what a person should know about the adapter goes to standard error.
  Planned plan();

  std::unique_ptr<Model> load_model(Device device) const;
  /// Adapters as they are before the next step: new ones, those of --adapter, or the checkpoint's.
  Lora attach(Model& model) const;

 private:
  FinetuneOptions options_;
  std::filesystem::path checkpoint_;
  RunData data_;
  RunSources sources_;
};

}  // namespace candela::cli
