#pragma once

#include <CLI/CLI.hpp>

#include <candela/io/dataset.h>
#include <candela/models/config.h>

namespace candela::cli {

/// How rows become samples; finetune and eval share it, so that both see the same rows.
struct RowOptions {
  std::int64_t max_length = 0;
  bool truncate = false;
  bool train_on_prompt = false;
};

/// Declares --max-length, --truncate and --train-on-prompt.
void declare_row_options(CLI::App& command, RowOptions& options);

/// Says on standard error where --max-length is beyond the model's context.
DatasetOptions dataset_options(const RowOptions& options, const Tokenizer& tokenizer,
                               const ModelConfig& config);

}  // namespace candela::cli
