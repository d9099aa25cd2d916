#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include <candela/lora/config.h>
#include <candela/train/trainer.h>

#include "cli/model_options.h"
#include "cli/row_options.h"

namespace candela::cli {

/// What `candela finetune` is asked to do.
struct FinetuneOptions {
  /// model.adapter: to continue from
  ModelOptions model;
  std::vector<std::string> data;
  std::string output;
  std::vector<std::string> valid;
  double valid_split = 0;
  RowOptions rows;
  LoraConfig lora;
  std::vector<std::string> targets = {kAllLinear};
  std::string target_regex;
  std::vector<std::string> rank_pattern;
  std::vector<std::string> alpha_pattern;
  TrainOptions train;
  bool packing = false;
  /// tokens; 0: usual_pack_length()
  std::int64_t pack_length = 0;
  std::string schedule = "cosine";
  std::string checkpoint = "none";
  std::int64_t save_every = 0;
  std::int64_t keep_checkpoints = 3;
  /// a run's folder or a checkpoint; empty: a new run
  std::string resume;
  bool keep_best = false;
  bool overwrite = false;
  bool plan_only = false;
  bool quiet = false;
};

void declare_finetune_options(CLI::App& command, FinetuneOptions& options);
/// Parts of it: --rank and what else makes an adapter (behind --adapter); how it is trained; the run's files.
void declare_lora_options(CLI::App& command, FinetuneOptions& options);
void declare_train_options(CLI::App& command, FinetuneOptions& options);
void declare_run_options(CLI::App& command, FinetuneOptions& options);

/// Fills in what the options say together: `lora` and `train`. Throws UsageError.
void finish_finetune_options(FinetuneOptions& options);

}  // namespace candela::cli
