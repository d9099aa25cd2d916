#include <chrono>
#include <cmath>
#include <cstdio>
#include <fmt/format.h>
#include <memory>

#include <candela/generate/generate.h>
#include <candela/io/dataset.h>

#include "cli/command.h"
#include "cli/model_options.h"

namespace candela::cli {
namespace {

struct GenerateCommand {
  ModelOptions model;
  GenerateOptions generate;
  std::string prompt;
  std::string system;
  bool chat = false;
  bool probabilities = false;
  bool verbose = false;
};

/// The prompt as the model is to continue it: as given, or as the user's turn of a ChatML chat.
std::string full_prompt(const GenerateCommand& command) {
  if (!command.chat) return command.prompt;
  std::vector<ChatMessage> messages;
  if (!command.system.empty()) messages.push_back({"system", command.system});
  messages.push_back({"user", command.prompt});
  return render_chatml(messages, true);
}

void print_probabilities(const Generation& result, const Tokenizer& tokenizer) {
  for (const GeneratedToken& token : result.tokens) {
    fmt::print(stderr, "{:>8.4f}  {}\n", std::exp(token.log_probability),
               tokenizer.id_to_token(token.id).value_or("(no token)"));
  }
}

void generate(GenerateCommand command) {
  LoadedModel loaded = load(command.model);
  const Tokenizer tokenizer = Tokenizer::load(command.model.model);
  TextGenerator generator(*loaded.model, tokenizer);
  if (command.chat) {
    if (const auto end = tokenizer.token_to_id("<|im_end|>")) command.generate.stop_tokens.push_back(*end);
  }
  command.generate.log_probabilities = command.probabilities;
  const auto start = std::chrono::steady_clock::now();
  const Generation result =
      generator.generate(full_prompt(command), command.generate, [](std::string_view text) {
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
        return true;
      });
  std::fputc('\n', stdout);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (command.probabilities) print_probabilities(result, tokenizer);
  if (command.verbose) {
    fmt::print(
        stderr,
        "candela: {} prompt tokens, {} generated in {:.2f} s ({:.1f} tok/s with the prompt), ended by {}\n",
        result.prompt_tokens, result.tokens.size(), seconds,
        static_cast<double>(result.tokens.size()) / seconds, to_string(result.finish));
  }
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateCommand>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a text; only the continuation goes to standard output");
  declare_model_options(*command, options->model, true);
  GenerateOptions& generation = options->generate;
  SamplingOptions& sampling = generation.sampling;
  command->add_option("--prompt", options->prompt, "The text to continue")->required();
  command->add_flag("--chat", options->chat,
                    "Put the prompt as the user's turn of a ChatML chat, and stop at the end of the answer");
  command->add_option("--system", options->system, "With --chat: the system message");
  command->add_option("--max-tokens", generation.max_tokens, "Most tokens to generate")
      ->capture_default_str();
  command
      ->add_option("--temperature", sampling.temperature,
                   "0: always the most likely token; higher: more varied")
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "Draw from the k most likely tokens only; 0: all")
      ->capture_default_str();
  command
      ->add_option("--top-p", sampling.top_p,
                   "Draw from the most likely tokens whose probabilities reach this sum")
      ->capture_default_str();
  command
      ->add_option("--min-p", sampling.min_p,
                   "Drop tokens less likely than this share of the most likely one")
      ->capture_default_str();
  command
      ->add_option("--repetition-penalty", sampling.repetition_penalty,
                   "Above 1: discourage tokens seen before")
      ->capture_default_str();
  command->add_option("--stop", generation.stop_strings, "End before this text; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--seed", generation.seed, "Seed of the draws")->capture_default_str();
  command->add_flag("--probabilities", options->probabilities,
                    "Print each token's probability on standard error");
  command->add_flag("--verbose", options->verbose, "Print counts and speed on standard error");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela generate --model models/stories-7m --prompt 'Once upon a time' --max-tokens 60 "
      "--temperature 0.8 --seed 1");
  command->callback([&action, options] { action = [options] { generate(*options); }; });
}

}  // namespace candela::cli
