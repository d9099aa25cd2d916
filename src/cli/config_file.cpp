#include "cli/config_file.h"

#include <algorithm>
#include <array>
#include <fmt/ranges.h>
#include <map>
#include <set>
#include <yaml-cpp/yaml.h>

#include "cli/config_entries.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/resume.h"
#include "cli/spelling.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

bool is_flag(const CLI::Option& option) {
  return option.get_expected_max() == 0;
}

std::string name_of(const CLI::Option& option) {
  return option.get_lnames().empty() ? std::string() : option.get_lnames()[0];
}

bool is_meta(const std::string& name) {
  return name.empty() || name == "help" || name == "config";
}

/// Null if `app` has no such subcommand.
template <class App>
auto find_subcommand(App& app, const std::string& name) {
  const auto found = app.get_subcommands([&](const CLI::App* one) { return one->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

std::string known_keys(const CLI::App& command) {
  std::string keys;
  for (const CLI::Option* option : command.get_options()) {
    if (!is_meta(name_of(*option))) keys += (keys.empty() ? "" : ", ") + name_of(*option);
  }
  return keys;
}

/// The command line of one subcommand, without --config.
struct CommandLine {
  std::vector<std::string> arguments;
  std::set<const CLI::Option*> given;
  std::vector<std::string> config_files;
};

/// Reads the arguments as CLI11 will: an option takes the next argument whatever it looks like, a list all up
/// to the next option.
class CommandLineReader {
 public:
  CommandLineReader(CLI::App& app, const std::vector<std::string>& arguments)
      : command_(&app), path_("candela " + app.get_name()), rest_(arguments) {
    while (at_ < rest_.size()) {
      if (rest_[at_].starts_with("--") && rest_[at_].size() > 2) {
        read_option();
        continue;
      }
      require<UsageError>(!is_short_option(rest_[at_]) || find_option(*command_, rest_[at_]) != nullptr,
                          "{}: is no option of `{}`, whose options have long names; `{} --help` lists them",
                          rest_[at_], path_, path_);
      if (CLI::App* sub = find_subcommand(*command_, rest_[at_])) {
        command_ = sub;
        path_ += " " + sub->get_name();
      }
      line_.arguments.push_back(rest_[at_++]);
    }
  }
  CommandLine take() { return std::move(line_); }

 private:
  static bool is_short_option(const std::string& text) { return text.size() > 1 && text[0] == '-'; }

  void read_option() {
    const std::string argument = rest_[at_++];
    const std::size_t equals = argument.find('=');
    const Spelling spelling = find_spelling(*command_, argument.substr(2, equals - 2));
    if (spelling.option == nullptr)
      throw UsageError(
          fmt::format("{}: is no option of `{}`{}`{} --help` lists them", argument.substr(0, equals), path_,
                      did_you_mean(argument.substr(2, equals - 2), option_names(*command_), "--"), path_));
    const CLI::Option& option = *spelling.option;
    const std::string name = "--" + name_of(option);
    const bool joined = equals != std::string::npos && equals + 1 < argument.size();
    line_.given.insert(&option);
    if (is_flag(option) || spelling.when_on) {
      read_switch(name, spelling, joined ? std::optional(argument.substr(equals + 1)) : std::nullopt);
      return;
    }
    if (!joined && at_ == rest_.size()) {
      line_.arguments.push_back(name);
      return;
    }
    const std::string value = joined ? argument.substr(equals + 1) : rest_[at_++];
    if (name == "--config") {
      line_.config_files.push_back(value);
      return;
    }
    line_.arguments.push_back(name);
    if (!is_list(option)) {
      line_.arguments.push_back(value);
      return;
    }
    add_values(option, value);
    while (at_ < rest_.size() && !(rest_[at_].size() > 1 && rest_[at_][0] == '-'))
      add_values(option, rest_[at_++]);
  }

  void add_values(const CLI::Option& option, const std::string& text) {
    for (const std::string& value : list_values(option, text)) line_.arguments.push_back(literal(value));
  }

  /// A switch, which may be followed by true or false, as other tools have them.
  void read_switch(const std::string& name, const Spelling& spelling, std::optional<std::string> value) {
    const auto is_boolean = [](const std::string& text) {
      return text == "true" || text == "True" || text == "false" || text == "False";
    };
    if (!value && at_ < rest_.size() && is_boolean(rest_[at_])) value = rest_[at_++];
    if (value == "True") value = "true";
    if (value == "False") value = "false";
    if (!spelling.when_on) {
      line_.arguments.push_back(value ? name + "=" + *value : name);
      return;
    }
    require<UsageError>(!value || is_boolean(*value), "{}: is a switch; expected true or false; got {}", name,
                        value.value_or(""));
    if (value != "false") line_.arguments.insert(line_.arguments.end(), {name, *spelling.when_on});
  }

  CLI::App* command_;
  std::string path_;  // "candela bench ops"
  const std::vector<std::string>& rest_;
  std::size_t at_ = 0;
  CommandLine line_;
};

/// "yes", "On", "TRUE", ... as YAML has them.
std::string boolean(const std::string& text, const std::string& where) {
  bool value = false;
  require<UsageError>(YAML::convert<bool>::decode(YAML::Node(text), value),
                      "{}: is a switch; expected true or false; got {}", where, text);
  return value ? "true" : "false";
}

/// Lets the option itself say what is wrong with its values; the arguments built from them set them again.
void check_values(CLI::Option& option, const std::vector<std::string>& values, const std::string& where) {
  try {
    option.clear();
    for (const std::string& value : values) option.add_result(is_list(option) ? literal(value) : value);
    option.run_callback();
    option.clear();
  } catch (const CLI::Error& error) {
    option.clear();
    std::string text = error.what();
    const std::string own = option.get_name() + ": ";
    if (text.starts_with(own)) text.erase(0, own.size());
    throw UsageError(fmt::format("{}: {}", where, text));
  }
}

/// The arguments that `entry` of a config file stands for. `when_on`: as in Spelling.
std::vector<std::string> arguments_of(const ConfigEntry& entry, CLI::Option& option,
                                      const std::optional<std::string>& when_on, const std::string& where) {
  using Kind = ConfigEntry::Kind;
  require<UsageError>(entry.kind != Kind::Null, "{}: has no value (null); leave the key out for the default",
                      where);
  require<UsageError>(entry.kind != Kind::Other, "{}: expected a value or a list of values", where);
  require<UsageError>(entry.kind == Kind::Scalar || is_list(option), "{}: takes one value; got a list",
                      where);
  require<UsageError>(!entry.values.empty(), "{}: is an empty list; leave the key out for the default",
                      where);
  const std::string name = "--" + name_of(option);
  if (is_flag(option)) return {name + "=" + boolean(entry.values[0], where)};
  std::vector<std::string> values = entry.values;
  if (when_on) {
    if (boolean(entry.values[0], where) == "false") return {};
    values = {*when_on};
  } else if (is_list(option)) {
    values.clear();
    for (const std::string& text : entry.values)
      for (std::string& value : list_values(option, text)) values.push_back(std::move(value));
  }
  check_values(option, values, where);
  std::vector<std::string> arguments;
  for (const std::string& value : values)
    arguments.insert(arguments.end(), {name, is_list(option) ? literal(value) : value});
  return arguments;
}

using Options = std::set<const CLI::Option*>;

/// One entry of a config file.
struct Setting {
  ConfigEntry entry;
  CLI::Option* option = nullptr;
  std::optional<std::string> when_on;
  /// "FILE:LINE: KEY"
  std::string where;
};

std::vector<Setting> read_settings(const std::string& file, CLI::App& command) {
  std::vector<Setting> settings;
  std::set<std::string> seen;
  for (ConfigEntry& entry : read_config_entries(file)) {
    const std::string where = fmt::format("{}:{}: {}", file, entry.line, entry.key);
    const Spelling spelling = find_spelling(command, entry.key);
    if (spelling.option == nullptr || is_meta(name_of(*spelling.option)))
      throw UsageError(fmt::format("{}: is no option of `candela {}`{}known: {}", where, command.get_name(),
                                   did_you_mean(entry.key, option_names(command)), known_keys(command)));
    require<UsageError>(seen.insert(name_of(*spelling.option)).second,
                        "{}: occurs a second time; keep one of them", where);
    settings.push_back({std::move(entry), spelling.option, spelling.when_on, where});
  }
  return settings;
}

/// The option among `given` that excludes `option`; null: none.
const CLI::Option* excluding(const CLI::Option& option, const Options& given) {
  for (const CLI::Option* other : option.get_excludes()) {
    if (given.count(other) > 0) return other;
  }
  return nullptr;
}

/// What the command line leaves of the file: an option that it gives too, or excludes, is dropped.
std::vector<Setting> without_overruled(std::vector<Setting> settings, const Options& given,
                                       const std::string& file) {
  std::vector<Setting> kept;
  std::map<std::string, std::vector<std::string>> excluded;  // by the option that excludes them
  for (Setting& setting : settings) {
    if (given.count(setting.option) > 0) continue;
    const CLI::Option* const other = excluding(*setting.option, given);
    if (other == nullptr) {
      kept.push_back(std::move(setting));
      continue;
    }
    // Without the adapter that it goes on from, the run would be another one.
    require<UsageError>(name_of(*setting.option) != "adapter",
                        "{}: --{} on the command line excludes it; leave one of them out", setting.where,
                        name_of(*other));
    excluded[name_of(*other)].push_back(setting.entry.key);
  }
  for (const auto& [other, keys] : excluded)
    note(fmt::format("{}: left out, as --{} on the command line excludes: {}", file, other,
                     fmt::join(keys, ", ")));
  return kept;
}

/// What CLI11 would find too, but without a file or line.
void check_together(const std::vector<Setting>& settings, const Options& given) {
  std::map<const CLI::Option*, const Setting*> before;
  Options present = given;
  for (const Setting& setting : settings) present.insert(setting.option);
  for (const Setting& setting : settings) {
    for (const CLI::Option* other : setting.option->get_excludes()) {
      const auto found = before.find(other);
      if (found == before.end()) continue;
      throw UsageError(fmt::format("{}: excludes {} (line {}); leave one of them out", setting.where,
                                   found->second->entry.key, found->second->entry.line));
    }
    for (const CLI::Option* needed : setting.option->get_needs()) {
      require<UsageError>(present.count(needed) > 0, "{}: has no effect without {}; give it too, or neither",
                          setting.where, name_of(*needed));
    }
    before.emplace(setting.option, &setting);
  }
}

void append_config(const std::string& file, CLI::App& command, const Options& given,
                   std::vector<std::string>& out, const std::string& left_out = {}) {
  std::vector<Setting> settings = without_overruled(read_settings(file, command), given, file);
  std::erase_if(settings, [&](const Setting& setting) { return name_of(*setting.option) == left_out; });
  for (const Setting& setting : settings) {
    const std::vector<std::string> arguments =
        arguments_of(setting.entry, *setting.option, setting.when_on, setting.where);
    out.insert(out.end(), arguments.begin(), arguments.end());
  }
  check_together(settings, given);
}

/// `--resume RUN`: the options that the checkpoint was saved with, and RUN as the output.
void append_resumed(CLI::App& command, const CommandLine& line, std::vector<std::string>& out) {
  const auto name = std::find(line.arguments.begin(), line.arguments.end(), "--resume");
  if (name == line.arguments.end() || name + 1 == line.arguments.end()) return;
  if (find_option(command, "--resume") == nullptr) return;
  require<UsageError>(line.config_files.empty(),
                      "--resume: goes on with the run's own options; leave out --config");
  const ResumePoint point = resume_point(*(name + 1));
  const std::string file = (point.folder / kRunConfigName).string();
  append_config(file, command, line.given, out, "output");
  if (line.given.count(find_option(command, "--output")) == 0)
    out.insert(out.end(), {"--output", run_of(point).string()});
}

}  // namespace

std::vector<std::string> expand_config(CLI::App& app, const std::vector<std::string>& arguments) {
  CLI::App* const command = arguments.empty() ? nullptr : find_subcommand(app, arguments[0]);
  if (command == nullptr) {
    const bool unknown = !arguments.empty() && arguments[0].starts_with("-") &&
                         find_option(app, arguments[0].substr(0, arguments[0].find('='))) == nullptr;
    if (unknown)
      throw UsageError(fmt::format("{}: is no option of `candela`{}`candela --help` lists its commands",
                                   arguments[0], did_you_mean(arguments[0], {"--help", "--version"})));
    return arguments;
  }
  const CommandLine line = CommandLineReader(*command, {arguments.begin() + 1, arguments.end()}).take();
  std::vector<std::string> expanded = {arguments[0]};
  require<UsageError>(line.config_files.size() <= 1, "--config: takes one file; got {}",
                      line.config_files.size());
  for (const std::string& file : line.config_files) append_config(file, *command, line.given, expanded);
  append_resumed(*command, line, expanded);
  expanded.insert(expanded.end(), line.arguments.begin(), line.arguments.end());
  return expanded;
}

namespace {

/// Options that concern the one run they are given to.
bool is_passing(const std::string& name) {
  constexpr std::array kPassing = {"overwrite", "plan", "resume"};
  return std::find(kPassing.begin(), kPassing.end(), name) != kPassing.end();
}

/// Whether YAML reads `text` as it is without quotes: numbers and booleans.
bool is_plain(const std::string& text) {
  return text == "true" || text == "false" ||
         (!text.empty() && text.find_first_not_of("0123456789.+-e") == std::string::npos);
}

/// A default that an option which was given excludes, or that needs one which was not, says nothing.
bool is_void(const CLI::Option& option) {
  const auto given = [](const CLI::Option* other) { return other->count() > 0; };
  const auto excludes = option.get_excludes();
  const auto needs = option.get_needs();
  return std::any_of(excludes.begin(), excludes.end(), given) ||
         !std::all_of(needs.begin(), needs.end(), given);
}

}  // namespace

std::string config_of(const CLI::App& command) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = name_of(*option);
    if (is_meta(name) || is_passing(name)) continue;
    const bool given = option->count() > 0;
    if (!given && (option->get_default_str().empty() || is_void(*option))) continue;
    const std::vector<std::string> values =
        given ? option->reduced_results() : std::vector{option->get_default_str()};
    out << YAML::Key << name << YAML::Value;
    if (is_list(*option)) out << YAML::Flow << YAML::BeginSeq;
    for (const std::string& value : values) {
      if (!is_plain(value)) out << YAML::DoubleQuoted;  // "null" and "[a]" are texts here
      out << value;
    }
    if (is_list(*option)) out << YAML::EndSeq;
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace candela::cli
