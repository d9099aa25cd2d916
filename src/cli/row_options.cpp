#include "cli/row_options.h"

#include "cli/options.h"
#include "cli/output.h"

namespace candela::cli {

void declare_row_options(CLI::App& command, RowOptions& options) {
  add_number(command, "--max-length", options.max_length, {0, kMostCount},
             "Longest row in tokens; 0: the model's context")
      ->check(CLI::Validator(
          [](const std::string& text) -> std::string {
            return text == "1" ? "must be 0 or at least 2: one token to predict from, one to predict; got 1"
                               : "";
          },
          ""));
  command.add_flag("--truncate", options.truncate, "Cut longer rows off instead of refusing them");
  command.add_flag("--train-on-prompt", options.train_on_prompt,
                   "Count prompts and user turns in the loss too, not answers alone");
}

DatasetOptions dataset_options(const RowOptions& options, const Tokenizer& tokenizer,
                               const ModelConfig& config) {
  DatasetOptions rows = DatasetOptions::for_model(tokenizer, config);
  if (options.max_length > config.max_position_embeddings) {
    note(fmt::format(
        "--max-length {} is beyond the model's context of {} tokens: longer rows are positions it "
        "has never seen",
        options.max_length, config.max_position_embeddings));
  }
  if (options.max_length > 0) rows.max_length = static_cast<std::size_t>(options.max_length);
  rows.truncate = options.truncate;
  rows.train_on_prompt = options.train_on_prompt;
  return rows;
}

}  // namespace candela::cli
