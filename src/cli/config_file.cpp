#include "cli/config_file.h"

#include <filesystem>
#include <yaml-cpp/yaml.h>

#include <candela/core/error.h>

namespace candela::cli {
namespace {

std::string known_keys(const CLI::App& command) {
  std::string keys;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || option->get_lnames()[0] == "help" ||
        option->get_lnames()[0] == "config")
      continue;
    keys += (keys.empty() ? "" : ", ") + option->get_lnames()[0];
  }
  return keys;
}

std::string scalar(const YAML::Node& node, const std::string& where) {
  require(node.IsScalar(), "{}: expected a value or a list of values", where);
  return node.Scalar();
}

void append_option(const std::string& file, const CLI::App& command, const YAML::Node& key_node,
                   const YAML::Node& value, std::vector<std::string>& out) {
  const std::string key = scalar(key_node, fmt::format("{}:{}", file, key_node.Mark().line + 1));
  const std::string where = fmt::format("{}:{}: {}", file, key_node.Mark().line + 1, key);
  const CLI::Option* option = command.get_option_no_throw("--" + key);
  require(option != nullptr && key != "config" && key != "help",
          "{}: is no option of `candela {}`; known: {}", where, command.get_name(), known_keys(command));
  if (option->get_expected_max() == 0) {  // a flag
    const std::string text = scalar(value, where);
    require(text == "true" || text == "false", "{}: is a switch; expected true or false, got {}", where,
            text);
    out.push_back(fmt::format("--{}={}", key, text));
    return;
  }
  if (value.IsSequence()) {
    require(option->get_expected_max() > 1, "{}: takes one value; got a list", where);
    out.push_back("--" + key);
    for (const YAML::Node& item : value) out.push_back(scalar(item, where));
    return;
  }
  out.push_back(fmt::format("--{}={}", key, scalar(value, where)));
}

std::vector<std::string> read_config(const std::string& file, const CLI::App& command) {
  require<IoError>(std::filesystem::is_regular_file(file),
                   "{}: no such file; --config takes a YAML or JSON file", file);
  std::vector<std::string> options;
  try {
    const YAML::Node root = YAML::LoadFile(file);
    require<IoError>(root.IsMap(), "{}: expected a mapping from option names to values", file);
    for (const auto& entry : root) append_option(file, command, entry.first, entry.second, options);
  } catch (const YAML::Exception& error) {
    throw IoError(fmt::format("{}:{}: is neither YAML nor JSON: {}", file, error.mark.line + 1, error.msg));
  }
  return options;
}

}  // namespace

std::vector<std::string> expand_config(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty()) return arguments;
  const CLI::App* command = nullptr;
  for (const CLI::App* candidate : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (candidate->get_name() == arguments[0]) command = candidate;
  }
  std::vector<std::string> expanded = {arguments[0]};
  std::vector<std::string> own;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const bool joined = arguments[i].starts_with("--config=");
    if (command == nullptr || (!joined && (arguments[i] != "--config" || i + 1 == arguments.size()))) {
      own.push_back(arguments[i]);
      continue;
    }
    const std::string file = joined ? arguments[i].substr(std::string("--config=").size()) : arguments[++i];
    const std::vector<std::string> options = read_config(file, *command);
    expanded.insert(expanded.end(), options.begin(), options.end());
  }
  expanded.insert(expanded.end(), own.begin(), own.end());
  return expanded;
}

std::string config_of(const CLI::App& command) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty()) continue;
    const std::string& name = option->get_lnames()[0];
    if (name == "help" || name == "config") continue;
    const std::vector<std::string> given = option->results();
    if (given.empty() && option->get_default_str().empty()) continue;
    out << YAML::Key << name << YAML::Value;
    if (given.size() > 1) {
      out << YAML::Flow << given;
    } else {
      out << (given.empty() ? option->get_default_str() : given[0]);
    }
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace candela::cli
