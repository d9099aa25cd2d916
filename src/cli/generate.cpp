#include <chrono>
#include <cmath>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <candela/generate/generate.h>
#include <candela/io/text_frame.h>

#include "cli/chat_format.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "cli/usage.h"
#include "io/json.h"

namespace candela::cli {
namespace {

struct GenerateCommand {
  ModelOptions model;
  GenerateOptions generate;
  SamplingFlags sampling;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string system;
  std::string chat_template;
  std::string chat_options;
  bool chat = false;
  bool ignore_eos = false;
  bool probabilities = false;
  bool verbose = false;
};

std::string read_prompt(const GenerateCommand& command) {
  if (!command.prompt_file.empty()) return io::read_file(command.prompt_file);
  require<UsageError>(command.prompt.has_value(),
                      "--prompt: is required: TEXT, or - for standard input; or give --prompt-file FILE");
  if (*command.prompt != "-") return *command.prompt;
  std::string text = read_standard_input();
  // `echo` ends its line.
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

/// Each token's probability and text, as JSON writes it: white space shows.
void print_probabilities(const Generation& result, const Tokenizer& tokenizer) {
  for (const GeneratedToken& token : result.tokens) {
    const std::string text = tokenizer.decode(std::span(&token.id, 1), false);
    const std::string shown =
        nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    write_error(fmt::format("{:>8.4f}  {}\n", std::exp(token.log_probability), escaped_name(shown)));
  }
}

void generate(GenerateCommand command) {
  const std::string prompt = read_prompt(command);
  const ModelConfig config = ModelConfig::load(command.model.model);
  command.generate.sampling = resolve_sampling(command.sampling, config);
  const Tokenizer tokenizer = Tokenizer::load(command.model.model);
  // Warns, too, where an adapter was trained on texts that are written otherwise.
  std::optional<ChatFormat> format;
  if (command.chat || !command.model.adapter.empty())
    format.emplace(command.model, command.chat_template, tokenizer, config);
  std::vector<TokenId> ids;
  if (command.chat) {
    ChatMessages messages;
    if (!command.system.empty()) messages.push_back({{"role", "system"}, {"content", command.system}});
    messages.push_back({{"role", "user"}, {"content", prompt}});
    ids = format->encode(messages, parse_chat_options(command.chat_options));
  } else {
    ids = text_frame(tokenizer, config).framed(tokenizer.encode(prompt, false));
  }
  LoadedModel loaded = load(command.model);
  TextGenerator generator(*loaded.model, tokenizer);
  command.generate.stop_at_eos = !command.ignore_eos;
  if (command.chat && !command.ignore_eos) command.generate.stop_tokens = format->stop_ids();
  command.generate.log_probabilities = command.probabilities;
  const auto start = std::chrono::steady_clock::now();
  const Generation result = generator.generate(ids, command.generate, [](std::string_view text) {
    write_text(text);
    flush_output();
    return true;
  });
  // A person wants the shell's prompt on a line of its own; a program wants the continuation and nothing
  // else.
  if (::isatty(STDOUT_FILENO) != 0) write_output("\n");
  flush_output();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (command.probabilities) print_probabilities(result, tokenizer);
  if (command.verbose) {
    write_error(fmt::format(
        "candela: {} prompt tokens, {} generated in {:.2f} s ({:.1f} tok/s with the prompt), ended by {}\n",
        result.prompt_tokens, result.tokens.size(), seconds,
        static_cast<double>(result.tokens.size()) / seconds, to_string(result.finish)));
  }
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateCommand>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a text; only the continuation goes to standard output");
  declare_model_options(*command, options->model);
  CLI::Option* const prompt = command->add_option(
      "--prompt", options->prompt,
      "The text to continue; -: read it from standard input, without its last line break");
  add_path(*command, "--prompt-file", options->prompt_file,
           "A file with the text to continue, taken as it is")
      ->excludes(prompt);
  CLI::Option* const chat = command->add_flag("--chat", options->chat,
                                              "Put the prompt as the user's turn of a chat, written by the "
                                              "model's chat template (ChatML where it has none), and "
                                              "stop at the end of the answer");
  command->add_option("--system", options->system, "The system message of the chat")->needs(chat);
  add_path(*command, "--chat-template", options->chat_template,
           "Jinja file to use in place of the model's chat template")
      ->needs(chat);
  command
      ->add_option("--chat-options", options->chat_options,
                   "JSON object with further variables of the template, as in '{\"enable_thinking\": false}'")
      ->needs(chat);
  add_number(*command, "--max-tokens", options->generate.max_tokens, {1, kMostCount},
             "Most tokens to generate");
  declare_sampling_options(*command, options->sampling, options->generate.seed);
  add_list(*command, "--stop", options->generate.stop_strings,
           "End before any of these texts; may be given several times");
  command->add_flag("--ignore-eos", options->ignore_eos,
                    "Go on behind the tokens that end a text, up to --max-tokens or --stop");
  command->add_flag("--probabilities", options->probabilities,
                    "Print each token's probability on standard error");
  command->add_flag("--verbose", options->verbose, "Print counts and speed on standard error");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela generate --model models/stories-7m --prompt 'Once upon a time' --max-tokens 60 "
      "--temperature 0.8 --seed 1\n"
      "Without --temperature, --top-k, --top-p, --min-p or --repetition-penalty, the model's "
      "generation_config.json "
      "decides, as in transformers: the most likely token each time unless it has do_sample; then a "
      "temperature of 1 "
      "and the 50 most likely tokens where it does not say otherwise.");
  command->callback([&action, options] { action = [options] { generate(*options); }; });
}

}  // namespace candela::cli
