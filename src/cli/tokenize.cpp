#include <algorithm>
#include <charconv>
#include <fmt/ranges.h>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

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
  bool decode = false;
  bool skip_special = false;
};

/// The ids of "[1, 2]" or "1 2".
std::vector<TokenId> parse_ids(std::string_view text, std::size_t vocabulary) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<TokenId> ids;
  for (std::size_t at = text.find_first_not_of(kBetween); at < text.size();
       at = text.find_first_not_of(kBetween, at)) {
    const std::size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    TokenId id = 0;
    const auto [stop, code] = std::from_chars(text.data() + at, text.data() + end, id);
    require<IoError>(code == std::errc() && stop == text.data() + end && id >= 0 &&
                         static_cast<std::size_t>(id) < vocabulary,
                     "standard input: must hold token ids in [0, {}); got {} at byte {}", vocabulary,
                     text.substr(at, std::min<std::size_t>(end - at, 40)), at);
    ids.push_back(id);
    at = end;
  }
  return ids;
}

void tokenize(const TokenizeOptions& options) {
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  const std::string text = read_standard_input();
  if (options.decode) {
    const auto vocabulary = static_cast<std::size_t>(tokenizer.vocab_size());
    write_text(tokenizer.decode(parse_ids(text, vocabulary), options.skip_special));
    if (::isatty(STDOUT_FILENO) != 0) write_output("\n");
    return;
  }
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
  CLI::App* command = app.add_subcommand(
      "tokenize", "Turn text from standard input into token ids, as a JSON array, or back");
  add_path(*command, "--tokenizer", options->tokenizer, "tokenizer.json, or the folder that holds it")
      ->required();
  CLI::Option* const special = command->add_flag(
      "--special", options->special, "Let the post-processor add its special tokens (BOS, for one)");
  CLI::Option* const show =
      command->add_flag("--show", options->show, "Print one token a line, id and text, instead of the array");
  CLI::Option* const decode = command->add_flag(
      "--decode", options->decode, "Read token ids, as this command prints them, and print their text");
  decode->excludes(special)->excludes(show);
  command->add_flag("--skip-special", options->skip_special, "Leave special tokens out of the text")
      ->needs(decode);
  command->footer(
      "Example:\n  printf 'Once upon a time' | candela tokenize --tokenizer models/stories-7m\n"
      "  echo '[403, 407, 261]' | candela tokenize --tokenizer models/stories-7m --decode");
  command->callback([&action, options] { action = [options] { tokenize(*options); }; });
}

}  // namespace candela::cli
