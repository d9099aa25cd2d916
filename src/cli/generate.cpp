#include <chrono>
#include <cmath>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <candela/generate/generate.h>
#include <candela/io/dataset.h>

#include "cli/command.h"
#include "cli/input.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/usage.h"
#include "io/json.h"

namespace candela::cli {
namespace {

/// Where a value is not given, generation_config.json's is taken.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> top_k;
};

struct GenerateCommand {
  ModelOptions model;
  GenerateOptions generate;
  SamplingFlags sampling;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string system;
  bool chat = false;
  bool ignore_eos = false;
  bool probabilities = false;
  bool verbose = false;
};

std::string read_prompt(const GenerateCommand& command) {
  if (!command.prompt_file.empty()) return io::read_file(command.prompt_file);
  require<UsageError>(command.prompt.has_value(),
                      "generate: needs --prompt TEXT, --prompt - or --prompt-file FILE");
  if (*command.prompt != "-") return *command.prompt;
  return read_standard_input();
}

/// The prompt as the model is to continue it: as given, or as the user's turn of a ChatML chat.
std::string full_prompt(const GenerateCommand& command, const std::string& prompt) {
  if (!command.chat) return prompt;
  std::vector<ChatMessage> messages;
  if (!command.system.empty()) messages.push_back({"system", command.system});
  messages.push_back({"user", prompt});
  return render_chatml(messages, true);
}

/// What the command line alone gives; UsageError for a value out of range.
void check_flags(const SamplingFlags& flags) {
  SamplingOptions given;
  given.temperature = flags.temperature.value_or(given.temperature);
  given.repetition_penalty = flags.repetition_penalty.value_or(given.repetition_penalty);
  try {
    check_sampling(given);
  } catch (const InvalidArgument& error) {
    throw UsageError(std::string("generate: --temperature, --repetition-penalty: ") + error.what());
  }
}

SamplingOptions resolve_sampling(const SamplingFlags& flags, const ModelConfig& config) {
  check_flags(flags);
  SamplingOptions result = default_sampling(config);
  result.temperature = flags.temperature.value_or(result.temperature);
  result.top_k = flags.top_k.value_or(result.top_k);
  result.top_p = flags.top_p.value_or(result.top_p);
  result.min_p = flags.min_p.value_or(result.min_p);
  result.repetition_penalty = flags.repetition_penalty.value_or(result.repetition_penalty);
  require<UsageError>(
      result.temperature > 0 || !(flags.top_k || flags.top_p || flags.min_p),
      "generate: --top-k, --top-p and --min-p have no effect on greedy choices; give --temperature "
      "too");
  if (result.temperature == 0) {  // greedy choices use none of these
    const SamplingOptions unused;
    result.top_k = unused.top_k;
    result.top_p = unused.top_p;
    result.min_p = unused.min_p;
  }
  try {
    check_sampling(result);
  } catch (const InvalidArgument& error) {  // the flags are in range
    throw IoError(fmt::format("{}: {}", config.generation_source, error.what()));
  }
  return result;
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
  if (command.chat) require_chatml(tokenizer, command.model.model);
  LoadedModel loaded = load(command.model);
  TextGenerator generator(*loaded.model, tokenizer);
  command.generate.stop_at_eos = !command.ignore_eos;
  if (command.chat && !command.ignore_eos)
    command.generate.stop_tokens.push_back(*tokenizer.token_to_id(kChatMlEnd));
  command.generate.log_probabilities = command.probabilities;
  const auto start = std::chrono::steady_clock::now();
  const Generation result =
      generator.generate(full_prompt(command, prompt), command.generate, [](std::string_view text) {
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

void declare_sampling_options(CLI::App& command, GenerateCommand& options) {
  SamplingFlags& sampling = options.sampling;
  add_number(command, "--temperature", sampling.temperature, {0, kLargestSamplingScale},
             "0: always the most likely token; higher: more varied");
  add_number(command, "--top-k", sampling.top_k, {0, kMostCount},
             "Draw from the k most likely tokens only; 0: all");
  add_number(command, "--top-p", sampling.top_p, {0, 1, true},
             "Draw from the most likely tokens whose probabilities reach this sum");
  add_number(command, "--min-p", sampling.min_p, {0, 1},
             "Drop tokens less likely than this share of the most likely one");
  add_number(command, "--repetition-penalty", sampling.repetition_penalty,
             {kSmallestSamplingScale, kLargestSamplingScale}, "Above 1: discourage tokens seen before");
  add_number(command, "--seed", options.generate.seed, {0, 9.2e18}, "Seed of the draws");
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateCommand>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a text; only the continuation goes to standard output");
  declare_model_options(*command, options->model);
  CLI::Option* const prompt = command->add_option("--prompt", options->prompt,
                                                  "The text to continue; -: read it from standard input");
  add_path(*command, "--prompt-file", options->prompt_file,
           "A file with the text to continue, taken as it is")
      ->excludes(prompt);
  CLI::Option* const chat = command->add_flag(
      "--chat", options->chat,
      "Put the prompt as the user's turn of a ChatML chat, and stop at the end of the answer");
  command->add_option("--system", options->system, "The system message of the chat")->needs(chat);
  add_number(*command, "--max-tokens", options->generate.max_tokens, {1, kMostCount},
             "Most tokens to generate");
  declare_sampling_options(*command, *options);
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
