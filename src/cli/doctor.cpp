#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <memory>
#include <unistd.h>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>

#include "cli/chat_commands.h"
#include "cli/chat_record.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/row_options.h"
#include "cli/sample_view.h"
#include "io/chat_turns.h"

namespace candela::cli {
namespace {

struct DoctorOptions {
  ModelOptions model;
  std::vector<std::string> data;
  RowOptions rows;
  double tolerance = 1e-3;
};

/// What is found, told line by line; names of tokens and what templates say come from the model's files.
class Findings {
 public:
  void good(std::string_view what, const std::string& text) {
    print_out("ok       {:<10} {}\n", what, escaped_name(text));
  }
  void bad(std::string_view what, const std::string& text) {
    print_out("PROBLEM  {:<10} {}\n", what, escaped_name(text));
    ++problems_;
  }
  int problems() const { return problems_; }

 private:
  int problems_ = 0;
};

std::string shown(const Tokenizer& tokenizer, TokenId id) {
  return fmt::format("{} {}", id, tokenizer.id_to_token(id).value_or("(no token)"));
}

void check_template(const DatasetOptions& rows, const Tokenizer& tokenizer, Findings& findings) {
  if (!rows.chat_template) {
    const bool chatml = tokenizer.token_to_id(kChatMlEnd).has_value();
    if (chatml)
      findings.good("template", "none; the tokenizer knows ChatML, which is used for chats");
    else
      findings.bad("template", "none, and the tokenizer does not know ChatML: chats cannot be written");
    return;
  }
  findings.good("template", rows.chat_template->name());
  const auto end = io::end_of_turn(*rows.chat_template, tokenizer, rows.end_ids);
  if (!end) {
    findings.bad("stop",
                 "the template ends an answer with no special token: generation cannot tell that it is over");
    return;
  }
  const bool stops = std::find(rows.end_ids.begin(), rows.end_ids.end(), *end) != rows.end_ids.end();
  if (stops)
    findings.good("stop", fmt::format("answers end in {}, which ends generation", shown(tokenizer, *end)));
  else
    findings.bad(
        "stop", fmt::format("answers end in {}, which is not among eos_token_id of generation_config.json or "
                            "config.json: other programs go on behind an answer",
                            shown(tokenizer, *end)));
}

void check_bos(const DatasetOptions& rows, const Tokenizer& tokenizer, Findings& findings) {
  const std::vector<TokenId>& prefix = rows.frame.prefix;
  if (!rows.chat_template) {
    findings.good("BOS", prefix.empty() ? "none stands in front of a text"
                                        : shown(tokenizer, prefix.front()) + " stands in front of a text");
    return;
  }
  std::string text;
  try {
    text = rows.chat_template->render(
        R"({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": true})");
  } catch (const TemplateError& error) {
    findings.bad("BOS", fmt::format("the template refuses a plain question: {}", error.what()));
    return;
  }
  const std::vector<TokenId> ids = tokenizer.encode(text, false);
  const bool twice = ids.size() > 1 && ids[0] == ids[1] && tokenizer.is_special(ids[0]);
  const bool writes = !prefix.empty() && !ids.empty() && ids[0] == prefix[0];
  if (twice)
    findings.bad("BOS", fmt::format("the template writes {} twice", shown(tokenizer, ids[0])));
  else if (!prefix.empty() && !writes)
    findings.bad("BOS", fmt::format("texts begin with {}, and chats do not: the template does not write it",
                                    shown(tokenizer, prefix[0])));
  else
    findings.good("BOS", writes ? "the template writes it, once" : "none, in chats as in texts");
}

/// Logits of the base with the adapter beside it, and merged into it, on the same ids.
void compare_merged(const DoctorOptions& options, std::vector<TokenId> ids, Findings& findings) {
  LoadedModel loaded = load(options.model);
  Model& model = *loaded.model;
  constexpr std::size_t kMost = 256;
  if (ids.size() > kMost) ids.resize(kMost);
  const NoGrad guard;
  const std::vector<std::int32_t> values(ids.begin(), ids.end());
  const Tensor input =
      Tensor::from_values(values, {1, static_cast<std::int64_t>(values.size())}, model.device());
  const auto logits = [&] {
    return cast(model.logits(model.forward_hidden(input)), DType::F32).to_vector<float>();
  };
  const std::vector<float> beside = logits();
  loaded.lora->merge();
  const std::vector<float> merged = logits();
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < beside.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::fabs(beside[i] - merged[i])));
    largest = std::max(largest, static_cast<double>(std::fabs(beside[i])));
  }
  const std::string text = fmt::format(
      "logits of base + adapter and of the merged model differ by at most {:.3g}, of {:.3g}, on {} tokens",
      worst, largest, ids.size());
  if (worst <= options.tolerance * std::max(largest, 1.0))
    findings.good("merge", text);
  else
    findings.bad("merge", text);
}

void examine(const DoctorOptions& options) {
  const ModelConfig config = ModelConfig::load(options.model.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model.model);
  const DatasetOptions rows = dataset_options(options.rows, tokenizer, config, options.model.model);
  Findings findings;
  check_template(rows, tokenizer, findings);
  check_bos(rows, tokenizer, findings);
  std::vector<TokenId> ids =
      rows.frame.framed(tokenizer.encode("Once upon a time, there was a question.", false));
  if (!options.data.empty()) {
    const Dataset data = Dataset::load(DatasetFiles::find(options.data).train, tokenizer, rows);
    findings.good("data", fmt::format("{} rows, {:.1f} % of their tokens trained", data.samples.size(),
                                      100 * data.statistics.trained_share()));
    const bool colour = ::isatty(STDOUT_FILENO) != 0;
    print_out("\n{}\n\n", marked_text(data.samples.front(), tokenizer, colour));
    ids = data.samples.front().ids;
  }
  if (!options.model.adapter.empty()) {
    const std::optional<ChatRecord> trained = load_chat_record(options.model.adapter);
    const ChatRecord own = chat_record_of(rows, tokenizer);
    if (!trained)
      findings.good("adapter", "does not say how its texts were written");
    else if (*trained == own)
      findings.good("adapter", "was trained with this template, these stop tokens and this BOS");
    else
      findings.bad("adapter",
                   "was trained with another template, other stop tokens or another BOS than the model's");
    if (trained && !(*trained == own)) warn_of_differences(*trained, own, options.model.adapter);
    compare_merged(options, std::move(ids), findings);
  }
  flush_output();
  require<Error>(findings.problems() == 0, "doctor: {} problem{} found", findings.problems(),
                 findings.problems() == 1 ? "" : "s");
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* command = app.add_subcommand("doctor",
                                         "Check chat template, stop tokens and BOS of a model, a row as "
                                         "training sees it, and an adapter against its merged model");
  declare_model_options(*command, options->model);
  add_data_list(*command, options->data);
  declare_row_options(*command, options->rows);
  add_number(*command, "--tolerance", options->tolerance, {0, 1},
             "Largest difference of the merged model's logits, as a share of the largest logit");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "The status is 1 where a problem is found.\nExample:\n  candela doctor --model models/stories-7m "
      "--data data/text-to-sql");
  command->callback([&action, options] { action = [options] { examine(*options); }; });
}

}  // namespace candela::cli
