#include "cli/embed_options.h"

#include <filesystem>
#include <iterator>
#include <sstream>

#include <candela/core/error.h>

#include "cli/input.h"
#include "cli/options.h"
#include "cli/output.h"
#include "io/json.h"

namespace candela::cli {
namespace {

void add_lines(std::istream& from, std::vector<std::string>& texts) {
  for (std::string line; std::getline(from, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    texts.push_back(std::move(line));
  }
}

void add_jsonl(const std::string& file, const std::string& field, std::vector<std::string>& texts) {
  std::istringstream lines(io::read_file(file));
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}:{}", file, number);
    const auto document = io::parse_json(line, where);
    texts.push_back(io::JsonObject(document, where).string(field.c_str()));
  }
}

}  // namespace

std::vector<CLI::Option*> declare_embedding(CLI::App& command, EmbedderFlags& flags) {
  CLI::Option* const name =
      command.add_option("--prompt-name", flags.prompt_name,
                         "Prompt of config_sentence_transformers.json to put in front of each text");
  name->check(not_empty());
  CLI::Option* const prompt =
      command.add_option("--prompt", flags.prompt, "Text to put in front of each text");
  prompt->check(not_empty())->excludes(name);
  return {
      name,
      prompt,
      add_choice(command, "--pooling", flags.pooling, {"cls", "mean", "max", "last"},
                 "For a folder without modules.json: which tokens make the vector"),
      command.add_flag("--no-normalize", flags.no_normalize,
                       "For a folder without modules.json: leave vectors as long as they are"),
      add_number(command, "--dimensions", flags.dimensions, {0, kMostCount},
                 "Keep the first elements only, renormalised (Matryoshka); 0: all"),
      add_number(command, "--batch-tokens", flags.batch_tokens, {1, kMostCount}, "Tokens computed at once")};
}

void declare_embedder(CLI::App& command, EmbedderFlags& flags) {
  declare_model_options(command, flags.model);
  declare_embedding(command, flags);
}

std::vector<CLI::Option*> declare_table(CLI::App& command, TextTableOptions& options) {
  return {add_list(command, "--fields", options.fields,
                   "Fields of the texts in order (anchor, positive, negatives); none: anchor positive "
                   "negative, or sentence1 sentence2"),
          command.add_option("--score-field", options.score_field, "Field of the score; none: score")
              ->check(not_empty()),
          add_number(command, "--max-score", options.max_score, {0, kMostCount, true},
                     "Scores are divided by it: 5 for the STS benchmark's")};
}

Embedder load_embedder(const EmbedderFlags& flags) {
  set_up_compute(flags.model);
  Embedder embedder = load_base_embedder(flags, parse_device(flags.model.device));
  if (!flags.model.adapter.empty()) {
    const Lora lora = Lora::load(embedder.model(), flags.model.adapter);
    for (const std::string& text : lora.notes()) note(text);
  }
  return embedder;
}

Embedder load_base_embedder(const EmbedderFlags& flags, Device device) {
  Embedder embedder = Embedder::load(flags.model.model, load_options(flags.model, true, device));
  if (flags.pooling.empty() && !flags.no_normalize) return embedder;
  std::vector<Pooling> pooling = embedder.config().pooling;
  if (flags.pooling == "cls") pooling = {Pooling::Cls};
  if (flags.pooling == "mean") pooling = {Pooling::Mean};
  if (flags.pooling == "max") pooling = {Pooling::Max};
  if (flags.pooling == "last") pooling = {Pooling::LastToken};
  embedder.set_pooling(pooling, !flags.no_normalize);
  return embedder;
}

EmbedOptions embed_options(const EmbedderFlags& flags) {
  EmbedOptions options;
  if (!flags.prompt_name.empty()) options.prompt_name = flags.prompt_name;
  if (!flags.prompt.empty()) options.prompt = flags.prompt;
  options.dimensions = flags.dimensions;
  options.batch_tokens = flags.batch_tokens;
  return options;
}

std::vector<std::string> read_texts(const std::vector<std::string>& files, const std::string& field) {
  std::vector<std::string> texts;
  if (files.empty()) {
    std::istringstream lines(read_standard_input());
    add_lines(lines, texts);
  }
  for (const std::string& file : files) {
    if (file.ends_with(".jsonl")) {
      add_jsonl(file, field, texts);
    } else {
      std::istringstream lines(io::read_file(file));
      add_lines(lines, texts);
    }
  }
  return texts;
}

}  // namespace candela::cli
