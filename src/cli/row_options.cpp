#include "cli/row_options.h"

#include "cli/options.h"
#include "cli/output.h"
#include "cli/usage.h"
#include "io/json.h"

namespace candela::cli {

CLI::Option* add_data_list(CLI::App& command, std::vector<std::string>& sources) {
  return add_paths(
      command, "--data", sources,
      "File of rows (.jsonl, .json, .csv, .tsv, .txt, also .gz, .xz, .zst), or folder with "
      "train.jsonl (and valid.jsonl); several, or given again, add up; PATH:WEIGHT takes each row "
      "of a file WEIGHT times an epoch");
}

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
  CLI::Option* const choice =
      add_choice(command, "--train-on", options.train_on, {"all", "assistant", "last"},
                 "What the loss counts: all tokens, every answer, or the last answer of a row");
  command
      .add_flag("--train-on-prompt", options.train_on_prompt,
                "Count prompts and user turns in the loss too, not answers alone: --train-on all")
      ->excludes(choice);
  command.add_flag("--skip-untrained", options.skip_untrained,
                   "Leave rows out that have no token to train on, and count them, instead of refusing them");
  command.add_flag(
      "--raw", options.raw,
      "Take prompts and completions as they are written, not as messages of the model's chat template");
  add_path(command, "--chat-template", options.chat_template,
           "Jinja file to use in place of the model's chat template");
  add_list(command, "--map", options.map,
           "NAME=FIELD: take what the rows call FIELD for NAME, as in prompt=question; may be given several "
           "times");
}

std::optional<ChatTemplate> chat_template_of(const std::string& file, const std::string& model) {
  if (file.empty()) return ChatTemplate::load(model);
  return ChatTemplate::parse(io::read_file(file), file, model);
}

DatasetOptions dataset_options(const RowOptions& options, const Tokenizer& tokenizer,
                               const ModelConfig& config, const std::string& model) {
  DatasetOptions rows = DatasetOptions::for_model(tokenizer, config);
  if (options.max_length > config.max_position_embeddings) {
    note(fmt::format(
        "--max-length {} is beyond the model's context of {} tokens: longer rows are positions it "
        "has never seen",
        options.max_length, config.max_position_embeddings));
  }
  if (options.max_length > 0)
    rows.max_length = rows.text_length = static_cast<std::size_t>(options.max_length);
  rows.truncate = options.truncate;
  rows.train_on = options.train_on == "all" || options.train_on_prompt ? TrainOn::All
                  : options.train_on == "last"                         ? TrainOn::Last
                                                                       : TrainOn::Assistant;
  rows.skip_untrained = options.skip_untrained;
  rows.raw = options.raw;
  rows.chat_template = chat_template_of(options.chat_template, model);
  for (const std::string& entry : options.map) {
    const std::size_t equals = entry.find('=');
    require<UsageError>(equals != std::string::npos && equals > 0 && equals + 1 < entry.size(),
                        "--map: must be NAME=FIELD, as in prompt=question; got \"{}\"", entry);
    rows.map.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return rows;
}

}  // namespace candela::cli
