#include <cstdio>
#include <exception>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "cli/command.h"
#include "cli/config_file.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

void declare(CLI::App& app, candela::cli::Action& action) {
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.footer(
      "Start with: candela finetune --model DIR --data DIR --output DIR, then candela generate --model DIR "
      "--adapter DIR --prompt TEXT.\n"
      "`candela COMMAND --help` explains a command and shows an example.");
  candela::cli::add_finetune(app, action);
  candela::cli::add_generate(app, action);
  candela::cli::add_eval(app, action);
  candela::cli::add_merge(app, action);
  candela::cli::add_info(app, action);
  candela::cli::add_tokenize(app, action);
  candela::cli::add_logits(app, action);
  candela::cli::add_bench(app, action);
  candela::cli::add_devices(app, action);
}

int run(int argc, char** argv) {
  CLI::App app{"Candela fine-tunes (LoRA) and runs transformer language models natively.", "candela"};
  candela::cli::Action action;
  declare(app, action);
  candela::set_thread_count(0);
  try {
    std::vector<std::string> arguments = candela::cli::expand_config(app, {argv + 1, argv + argc});
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  action();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fflush(stdout);
    fmt::print(stderr, "candela: error: {}\n", error.what());
    return kFailed;
  }
}
