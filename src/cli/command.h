#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace candela::cli {

/// What the command line chose to run.
using Action = std::function<void()>;

/// One subcommand each, in the file of its name: declares the options, once, and sets `action` when chosen.
void add_bench(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);
void add_embed(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_finetune(CLI::App& app, Action& action);
void add_finetune_embedder(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);
void add_logits(CLI::App& app, Action& action);
void add_merge(CLI::App& app, Action& action);
void add_pull(CLI::App& app, Action& action);
void add_search(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);

}  // namespace candela::cli
