#pragma once

#include <CLI/CLI.hpp>

#include <candela/io/dataset.h>
#include <candela/models/config.h>

namespace candela::cli {

/// How rows become samples; finetune, eval and data check share it, so that all see the same rows.
struct RowOptions {
  std::int64_t max_length = 0;
  bool truncate = false;
  bool train_on_prompt = false;
  std::string train_on = "assistant";
  bool skip_untrained = false;
  bool raw = false;
  /// a Jinja file; empty: the model's own
  std::string chat_template;
  std::vector<std::string> map;
};

/// Declares --data, a list: files and folders of rows, PATH or PATH:WEIGHT.
CLI::Option* add_data_list(CLI::App& command, std::vector<std::string>& sources);

/// Declares --max-length, --truncate, --train-on, --skip-untrained, --raw, --chat-template and --map.
void declare_row_options(CLI::App& command, RowOptions& options);

/// The template that `file` holds, or, where it is empty, that of the folder `model`; nothing if that has
/// none.
std::optional<ChatTemplate> chat_template_of(const std::string& file, const std::string& model);

/// Says on standard error where --max-length is beyond the model's context. `model`: its folder.
DatasetOptions dataset_options(const RowOptions& options, const Tokenizer& tokenizer,
                               const ModelConfig& config, const std::string& model);

}  // namespace candela::cli
