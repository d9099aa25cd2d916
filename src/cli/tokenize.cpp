#include <fmt/ranges.h>
#include <memory>
#include <string>

#include <candela/io/tokenizer.h>

#include "cli/command.h"
#include "cli/input.h"
#include "cli/options.h"
#include "cli/output.h"

namespace candela::cli {
namespace {

struct TokenizeOptions {
  std::string tokenizer;
  bool special = false;
  bool show = false;
};

void tokenize(const TokenizeOptions& options) {
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  const std::string text = read_standard_input();
  const std::vector<TokenId> ids = tokenizer.encode(text, options.special);
  if (!options.show) {
    print_out("[{}]\n", fmt::join(ids, ", "));
    return;
  }
  for (const TokenId id : ids)
    print_out("{:>8}  {}\n", id, escaped_name(tokenizer.id_to_token(id).value_or("(no token)")));
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Turn text from standard input into token ids, as a JSON array");
  add_path(*command, "--tokenizer", options->tokenizer, "tokenizer.json, or the folder that holds it")
      ->required();
  command->add_flag("--special", options->special,
                    "Let the post-processor add its special tokens (BOS, for one)");
  command->add_flag("--show", options->show, "Print one token a line, id and text, instead of the array");
  command->footer("Example:\n  printf 'Once upon a time' | candela tokenize --tokenizer models/stories-7m");
  command->callback([&action, options] { action = [options] { tokenize(*options); }; });
}

}  // namespace candela::cli
