#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace candela::cli {

/// Replaces `--config FILE` of a subcommand by the options in FILE, a mapping from option names (without
/// dashes) to values, in JSON if its name ends in .json and else in YAML; lists become several values. What
/// stands on the command line wins: the same option is dropped from the file, and so, with a note, is one
/// that it excludes; but --adapter, which a run starts from, must not vanish. Throws UsageError naming file,
/// line and key.
std::vector<std::string> expand_config(CLI::App& app, const std::vector<std::string>& arguments);

/// The options of `command` with their effective values, as YAML that `--config` takes back: but for those
/// that concern one run only, and defaults that an option that was given makes void.
std::string config_of(const CLI::App& command);

}  // namespace candela::cli
