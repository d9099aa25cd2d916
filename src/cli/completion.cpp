#include <fmt/format.h>
#include <fmt/ranges.h>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/output.h"

namespace candela::cli {
namespace {

/// A command as completion sees it: taken from the options that are declared, so that neither can go stale.
struct Shown {
  /// "", "finetune", "bench ops"
  std::string path;
  std::string help;
  std::vector<std::string> commands;
  struct Option {
    std::string name, help;
    bool takes_value = false;
    bool takes_path = false;
    std::vector<std::string> choices;
  };
  std::vector<Option> options;
  /// An argument of its own is a path, or one of these.
  bool takes_path = false;
  std::vector<std::string> arguments;
};

std::vector<std::string> choices_of(const std::string& type) {
  std::vector<std::string> choices;
  if (type.size() < 2 || type.front() != '{' || type.back() != '}') return choices;
  for (std::size_t begin = 1; begin < type.size();) {
    const std::size_t end = type.find_first_of(",}", begin);
    choices.push_back(type.substr(begin, end - begin));
    begin = end + 1;
  }
  return choices;
}

void collect(const CLI::App& app, const std::string& path, std::vector<Shown>& all) {
  Shown shown{path, app.get_description(), {}, {}, false, {}};
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (option->get_lnames().empty()) {
      shown.takes_path = shown.takes_path || takes_path(*option);
      shown.arguments = choices_of(type);
      continue;
    }
    shown.options.push_back({"--" + option->get_lnames()[0], option->get_description(),
                             option->get_expected_max() > 0, takes_path(*option), choices_of(type)});
  }
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands) shown.commands.push_back(command->get_name());
  all.push_back(std::move(shown));
  for (const CLI::App* command : commands)
    collect(*command, path.empty() ? command->get_name() : path + " " + command->get_name(), all);
}

std::vector<std::string> names_of(const Shown& shown) {
  std::vector<std::string> names = shown.commands;
  names.insert(names.end(), shown.arguments.begin(), shown.arguments.end());
  for (const Shown::Option& option : shown.options) names.push_back(option.name);
  return names;
}

/// A case of `case "$path $option"`: what completes the value.
std::string bash_value(const Shown& shown, const Shown::Option& option) {
  const std::string what = option.takes_path
                               ? "_candela_files"
                               : fmt::format("_candela_words '{}'", fmt::join(option.choices, " "));
  if (!option.takes_value) return {};
  const bool known = option.takes_path || !option.choices.empty();
  return fmt::format("    '{} {}') {} ;;\n", shown.path, option.name, known ? what : ":");
}

std::string bash_script(const std::vector<Shown>& all) {
  std::string paths, values, words;
  for (const Shown& shown : all) {
    for (const std::string& command : shown.commands)
      paths += fmt::format("      '{} {}') at='{}' ;;\n", shown.path, command,
                           shown.path.empty() ? command : shown.path + " " + command);
    for (const Shown::Option& option : shown.options) values += bash_value(shown, option);
    words += fmt::format("    '{}') _candela_words '{}'{} ;;\n", shown.path, fmt::join(names_of(shown), " "),
                         shown.takes_path ? "; _candela_files" : "");
  }
  return fmt::format(R"(# Completion of candela for bash: source it, or put it into
# ~/.local/share/bash-completion/completions/candela
_candela_words() {{ COMPREPLY+=($(compgen -W "$1" -- "$current")); }}
_candela_files() {{
  compopt -o filenames 2>/dev/null
  local file
  while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$current")
}}
_candela() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="" at="" word index
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${{COMP_WORDS[index]}}"
    case "$at $word" in
{}    esac
    [[ $word == = ]] || before="$word"
  done
  [[ $current == = ]] && current=""
  case "$at $before" in
{}    *) case "$at" in
{}    esac ;;
  esac
}}
complete -F _candela candela
)",
                     paths, values, words);
}

/// `text` within single quotes, where _arguments reads ":", "[", "]" and "\" as its own.
std::string zsh_quoted(const std::string& text) {
  std::string quoted;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']' || c == '\\') quoted += '\\';
    quoted += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return quoted;
}

std::string zsh_option(const Shown::Option& option) {
  std::string spec = option.name + "[" + zsh_quoted(option.help) + "]";
  if (option.takes_path)
    spec += ":path:_files";
  else if (!option.choices.empty())
    spec += fmt::format(":choice:({})", fmt::join(option.choices, " "));
  else if (option.takes_value)
    spec += ":value: ";
  return fmt::format("        '{}'", spec);
}

std::string zsh_case(const Shown& shown, const std::vector<Shown>& all) {
  std::vector<std::string> specs;
  for (const Shown::Option& option : shown.options) specs.push_back(zsh_option(option));
  if (shown.takes_path) specs.emplace_back("        '*:path:_files'");
  if (!shown.arguments.empty())
    specs.push_back(fmt::format("        '1:argument:({})'", fmt::join(shown.arguments, " ")));
  if (shown.commands.empty())
    return fmt::format("    '{}')\n      _arguments -S \\\n{} ;;\n", shown.path, fmt::join(specs, " \\\n"));
  std::string commands;
  for (const Shown& other : all) {
    const std::size_t space = other.path.rfind(' ');
    const std::string parent = space == std::string::npos ? "" : other.path.substr(0, space);
    if (other.path.empty() || parent != shown.path) continue;
    commands +=
        fmt::format("        '{}:{}'\n", other.path.substr(space == std::string::npos ? 0 : space + 1),
                    zsh_quoted(other.help));
  }
  return fmt::format("    '{}')\n      local -a commands=(\n{}      )\n      _describe command commands ;;\n",
                     shown.path, commands);
}

std::string zsh_script(const std::vector<Shown>& all) {
  std::string paths, cases;
  for (const Shown& shown : all) {
    for (const std::string& command : shown.commands)
      paths += fmt::format("      '{} {}') at='{}'; first=$index ;;\n", shown.path, command,
                           shown.path.empty() ? command : shown.path + " " + command);
    cases += zsh_case(shown, all);
  }
  return fmt::format(R"(#compdef candela
# Completion of candela for zsh: put it as _candela into a folder of $fpath, or source it after compinit.
_candela() {{
  local at="" index first=1
  for ((index = 2; index < CURRENT; index++)); do
    case "$at ${{words[index]}}" in
{}    esac
  done
  # _arguments wants the command itself as the first word.
  words=("${{(@)words[first,-1]}}")
  ((CURRENT -= first - 1))
  case "$at" in
{}  esac
}}
if [[ $funcstack[1] == _candela ]]; then _candela "$@"; else compdef _candela candela; fi
)",
                     paths, cases);
}

}  // namespace

void add_completion(CLI::App& app, Action& action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print the completion file of a shell");
  add_choice(*command, "shell", *shell, {"bash", "zsh"}, "The shell")->required();
  command->footer(
      "Example:\n  source <(candela completion bash)\n"
      "  candela completion zsh > ~/.zfunc/_candela");
  command->callback([&action, shell, root = &app] {
    // `root` outlives the action.
    action = [shell, root] {
      std::vector<Shown> all;
      collect(*root, "", all);
      write_output(*shell == "bash" ? bash_script(all) : zsh_script(all));
    };
  });
}

}  // namespace candela::cli
