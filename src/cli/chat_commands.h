#pragma once

#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace candela::cli {

/// The subcommands about chats and the data of training; as those of command.h.
void add_chat(CLI::App& app, Action& action);
void add_data(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_render(CLI::App& app, Action& action);

}  // namespace candela::cli
