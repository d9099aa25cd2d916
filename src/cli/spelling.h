#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Options and commands as people spell them: with underscores, by the names that other trainers use, or with
/// a letter wrong.
namespace candela::cli {

/// What a name stands for.
struct Spelling {
  CLI::Option* option = nullptr;
  /// The value that the other tool's switch stands for when it is on; nothing: the value that is given.
  std::optional<std::string> when_on{};
};

/// The option of `command` that `name` (without dashes) stands for: its own name, with "_" for "-", or the
/// name that peft, transformers, TRL or mlx-lm give it; null option: none.
Spelling find_spelling(CLI::App& command, const std::string& name);

/// The one of `known` that `name` most likely stands for; empty: none is near.
std::string nearest(std::string_view name, const std::vector<std::string>& known);

/// "; did you mean X? ", or "; ".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known,
                         std::string_view prefix = {});

/// The long names of the options of `command`, without dashes.
std::vector<std::string> option_names(const CLI::App& command);

}  // namespace candela::cli
