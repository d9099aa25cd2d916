#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <memory>

#include <candela/generate/evaluate.h>
#include <candela/generate/generate.h>
#include <candela/io/hub_cache.h>
#include <candela/train/trainer.h>

#include "cli/command.h"
#include "cli/eval_sts.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/row_options.h"
#include "io/json_text.h"
#include "io/utf8.h"

namespace candela::cli {
namespace {

struct EvalOptions {
  ModelOptions model;
  std::string data;
  RowOptions rows;
  std::int64_t limit = 0;
  std::int64_t max_tokens = 64;
  std::int64_t batch_size = 32;
  std::int64_t show = 0;
  bool compare = false;
  bool no_answers = false;
  bool json = false;
  StsOptions sts;
};

/// What one model does on the rows.
struct Result {
  double loss = 0;
  std::int64_t trained_tokens = 0;
  std::vector<std::string> answers;
  std::int64_t exact = 0;

  double exact_share() const {
    return answers.empty() ? 0 : static_cast<double>(exact) / static_cast<double>(answers.size());
  }
};

struct Rows {
  std::vector<Sample> samples;
  std::vector<Question> questions;
  Tokenizer tokenizer;
};

/// The files that --data names: of a folder its test set, or else what it is validated on.
std::vector<DataFile> held_out(const std::string& data) {
  const DatasetFiles files = DatasetFiles::find(data);
  if (!files.test.empty()) return files.test;
  if (!files.valid.empty()) return files.valid;
  const bool one_file = files.train.size() == 1 && files.train[0].path == local_path(data, HubKind::Dataset);
  require<IoError>(one_file,
                   "{}: must hold test.jsonl or valid.jsonl to evaluate on; to evaluate on the rows of "
                   "training, name their file",
                   data);
  return files.train;
}

Rows load_rows(const EvalOptions& options, const ModelConfig& config) {
  const Tokenizer tokenizer = Tokenizer::load(options.model.model);
  const DatasetOptions format = dataset_options(options.rows, tokenizer, config, options.model.model);
  Rows rows{Dataset::load(held_out(options.data), tokenizer, format).samples, {}, tokenizer};
  if (options.limit > 0 && static_cast<std::size_t>(options.limit) < rows.samples.size()) {
    rows.samples.resize(static_cast<std::size_t>(options.limit));
  }
  if (!options.no_answers) rows.questions = questions_of(rows.samples, tokenizer);
  return rows;
}

double mean_loss(Model& model, const EvalOptions& options, const Rows& rows, std::int64_t& tokens) {
  for (const Sample& sample : rows.samples) tokens += static_cast<std::int64_t>(sample.trained_tokens());
  return evaluate_loss(model, rows.samples, options.batch_size,
                       static_cast<std::int32_t>(model.config().pad_token_id.value_or(0)));
}

Result evaluate(Model& model, const EvalOptions& options, const Rows& rows, const std::string& name) {
  Result result;
  result.loss = mean_loss(model, options, rows, result.trained_tokens);
  if (rows.questions.empty()) return result;
  std::vector<std::vector<TokenId>> prompts;
  for (const Question& question : rows.questions) prompts.push_back(question.prompt);
  GenerateOptions generate;
  generate.max_tokens = options.max_tokens;
  generate.batch_size = options.batch_size;
  if (const auto end = rows.tokenizer.token_to_id(kChatMlEnd)) generate.stop_tokens.push_back(*end);
  Progress progress(name, static_cast<std::int64_t>(prompts.size()), "questions", options.json);
  TextGenerator generator(model, rows.tokenizer);
  const std::vector<Generation> generations = generator.generate_batch(
      prompts, generate, [&](std::size_t done) { progress.update(static_cast<std::int64_t>(done)); });
  progress.finish();
  for (std::size_t i = 0; i < generations.size(); ++i) {
    result.answers.push_back(trim(generations[i].text));
    result.exact += result.answers.back() == rows.questions[i].reference ? 1 : 0;
  }
  return result;
}

/// JSON has no infinity.
double perplexity(double loss) {
  return std::min(std::exp(loss), std::numeric_limits<double>::max());
}

std::vector<io::JsonField> to_json(const Result& result) {
  std::vector<io::JsonField> fields = {{"loss", io::json_number(result.loss)},
                                       {"perplexity", io::json_number(perplexity(result.loss))},
                                       {"trained_tokens", fmt::format("{}", result.trained_tokens)}};
  if (!result.answers.empty()) {
    fields.emplace_back("questions", fmt::format("{}", result.answers.size()));
    fields.emplace_back("exact", fmt::format("{}", result.exact));
    fields.emplace_back("exact_match", io::json_number(result.exact_share()));
  }
  return fields;
}

void print_result(const std::string& name, const Result& result) {
  print_out("{:<16} loss {:.4f}  perplexity {:.2f}{}\n", name, result.loss, perplexity(result.loss),
            result.answers.empty()
                ? ""
                : fmt::format("  exact match {:.1f} % ({} of {})", 100 * result.exact_share(), result.exact,
                              result.answers.size()));
}

/// Line breaks as spaces, cut to a screen's width of whole characters.
std::string one_line(std::string text) {
  constexpr std::size_t kWidth = 100;
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::size_t end = 0;
  for (std::size_t i = 0; i < kWidth && end < text.size(); ++i) end += io::code_point_at(text, end).bytes;
  return end < text.size() ? text.substr(0, end) + "..." : text;
}

/// Questions spread over the file, with every model's answer.
void print_examples(const EvalOptions& options, const Rows& rows,
                    const std::vector<std::pair<std::string, Result>>& results) {
  const auto count = std::min<std::size_t>(static_cast<std::size_t>(options.show), rows.questions.size());
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = i * rows.questions.size() / count;
    print_out("\n{}\n  expected: {}\n", escaped(trim(rows.tokenizer.decode(rows.questions[at].prompt, true))),
              escaped(rows.questions[at].reference));
    for (const auto& [name, result] : results) {
      const bool right = result.answers[at] == rows.questions[at].reference;
      print_out("  {:<16} {} {}\n", name + ":", right ? "✓" : "✗", escaped(one_line(result.answers[at])));
    }
  }
  print_out("\n");
}

void eval(EvalOptions& options) {
  if (!options.sts.file.empty()) {
    options.sts.embedder.model = options.model;
    options.sts.table.limit = options.limit;
    return eval_sts(options.sts, options.json);
  }
  LoadedModel loaded = load(options.model);
  const Rows rows = load_rows(options, loaded.model->config());
  std::vector<std::pair<std::string, Result>> results;
  if (options.compare) {
    loaded.lora->set_enabled(false);
    results.emplace_back("base", evaluate(*loaded.model, options, rows, "base model"));
    loaded.lora->set_enabled(true);
  }
  const std::string name = loaded.lora ? "base + adapter" : "base";
  results.emplace_back(name, evaluate(*loaded.model, options, rows, name));
  if (options.json) {
    std::vector<io::JsonField> fields = to_json(results.back().second);
    fields.emplace_back("rows", fmt::format("{}", rows.samples.size()));
    if (options.compare) fields.emplace_back("base", io::json_object(to_json(results.front().second), 1));
    print_out("{}\n", io::json_object(fields));
    return;
  }
  if (options.show > 0) print_examples(options, rows, results);
  for (const auto& [label, result] : results) print_result(label, result);
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand(
      "eval", "Loss, perplexity and exact match of answers on held-out rows; correlations of an embedder");
  declare_model_options(*command, options->model);
  add_path(*command, "--data", options->data,
           "JSONL file, or folder with test.jsonl (else valid.jsonl): text, prompt/completion or messages");
  declare_row_options(*command, options->rows);
  add_number(*command, "--limit", options->limit, {0, kMostCount}, "Only the first rows; 0: all");
  CLI::Option* const max_tokens =
      add_number(*command, "--max-tokens", options->max_tokens, {1, kMostCount}, "Longest answer");
  add_number(*command, "--batch-size", options->batch_size, {1, 1 << 20}, "Rows at once");
  command->add_flag("--compare", options->compare, "Evaluate the base model too")
      ->needs(find_option(*command, "--adapter"));
  CLI::Option* const json =
      command->add_flag("--json", options->json, "Print JSON: rows, loss, perplexity, exact_match");
  CLI::Option* const show = add_number(*command, "--show", options->show, {0, kMostCount},
                                       "Print this many questions with the answers");
  show->excludes(json);
  command->add_flag("--no-answers", options->no_answers, "Loss and perplexity only; generate nothing")
      ->excludes(show)
      ->excludes(max_tokens);
  declare_sts(*command, options->sts);
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela eval --model models/stories-7m --adapter out/sql --data "
      "data/text-to-sql/test.jsonl --compare --show 5\n"
      "  candela eval --model EMBEDDER --sts sts-test.tsv\n"
      "Answers are greedy; an answer is exact if it equals the row's last answer but for white space at its "
      "ends. The loss is that of finetune's validation: same rows, same dtype.");
  command->callback([&action, options, command] {
    check_sts_options(*command);
    action = [options] { eval(*options); };
  });
}

}  // namespace candela::cli
