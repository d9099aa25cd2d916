#pragma once

#include <functional>
#include <optional>
#include <string>

#include <candela/lora/lora.h>
#include <candela/train/trainer.h>

#include "cli/finetune_options.h"
#include "cli/resume.h"

/// A training run from its first step to its saved adapter, whatever it trains.
namespace candela::cli {

struct TrainingRun {
  const FinetuneOptions& options;
  Trainer& trainer;
  const Lora& lora;
  BatchSource& train;
  /// may be null
  BatchSource* valid;
  /// what it goes on from
  std::optional<ResumePoint> from;
  /// the run's options as YAML
  const std::string& config;
  /// writes what lies beside the adapter; may be empty
  std::function<void()> save_more;
};

/// Sets up computing and looks at the output before any work: where the run goes on from, if it was asked to.
/// Throws as resume_point(), check_resumable() and check_output().
std::optional<ResumePoint> begin_run(FinetuneOptions& options, const std::string& config);

/// Trains, with progress, metrics and checkpoints, and saves. Interrupted where a signal ended it.
void run_training(const TrainingRun& run);

}  // namespace candela::cli
