#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace candela::cli {

/// Replaces `--config FILE` of a subcommand by the options in FILE, a YAML or JSON mapping from option names
/// (without dashes) to values; sequences become several values. What stands on the command line comes after
/// and wins. Throws IoError or InvalidArgument naming file, line and key.
std::vector<std::string> expand_config(const CLI::App& app, const std::vector<std::string>& arguments);

/// The options of `command` with their present values, as YAML that `--config` takes back.
std::string config_of(const CLI::App& command);

}  // namespace candela::cli
