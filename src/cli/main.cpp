#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <new>
#include <span>
#include <sstream>
#include <string_view>
#include <unistd.h>
#include <utility>

#include "cli/chat_commands.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/spelling.h"
#include "cli/usage.h"

namespace {

using namespace candela::cli;

void declare(CLI::App& app, Action& action) {
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.set_version_flag("--version", "candela " CANDELA_VERSION);
  app.footer(
      "Start with: candela finetune --model DIR --data DIR --output DIR, then candela generate --model DIR "
      "--adapter DIR --prompt TEXT.\n"
      "`candela COMMAND --help` explains a command and shows an example.");
  add_finetune(app, action);
  add_verify(app, action);
  add_generate(app, action);
  add_chat(app, action);
  add_eval(app, action);
  add_merge(app, action);
  add_info(app, action);
  add_tokenize(app, action);
  add_render(app, action);
  add_data(app, action);
  add_pull(app, action);
  add_doctor(app, action);
  add_logits(app, action);
  add_embed(app, action);
  add_search(app, action);
  add_finetune_embedder(app, action);
  add_bench(app, action);
  add_devices(app, action);
  add_completion(app, action);
}

/// CLI11 itself only says that an argument was not expected. `before` is the command that it belongs to.
void check_command(const CLI::App& app, std::span<const std::string> arguments, const std::string& before) {
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (commands.empty() || arguments.empty() || arguments[0].starts_with('-')) return;
  std::vector<std::string> names;
  for (const CLI::App* command : commands) {
    if (command->get_name() == arguments[0])
      return check_command(*command, arguments.subspan(1), before + arguments[0] + " ");
    names.push_back(command->get_name());
  }
  throw UsageError(fmt::format("unknown command \"{}{}\"{}known: {}", before, arguments[0],
                               did_you_mean(arguments[0], names), fmt::join(names, ", ")));
}

/// What CLI11 found wrong, with the option first: "--rank: must be ...".
std::string wrong_usage(const CLI::ParseError& error) {
  std::string text = error.what();
  const auto behind = [&](std::string_view start) { return text.substr(start.size()); };
  if (text == "A subcommand is required") return "a command is required; `candela --help` lists them";
  for (const std::string_view start :
       {"The following argument was not expected: ", "The following arguments were not expected: "}) {
    if (text.starts_with(start)) return behind(start) + ": is not expected here";
  }
  constexpr std::string_view kConvert = "Could not convert: ";
  if (text.starts_with(kConvert)) {
    const auto equals = text.find(" = ");
    if (equals != std::string::npos)
      return fmt::format("{}: does not take the value {}",
                         text.substr(kConvert.size(), equals - kConvert.size()), text.substr(equals + 3));
  }
  if (const auto missing = text.find(": 1 required "); missing != std::string::npos)
    return text.substr(0, missing) + ": needs a value";
  for (const auto& [verb, advice] :
       {std::pair(" is required", ""), std::pair(" excludes ", "; leave one of them out"),
        std::pair(" requires ", ", without which it has no effect")}) {
    const auto at = text.find(verb);
    if (at != std::string::npos && text.find(' ') == at) return text.insert(at, ":") + advice;
  }
  return text;
}

int run(int argc, char** argv) {
  CLI::App app{"Candela fine-tunes (LoRA) and runs transformer language models natively.", "candela"};
  Action action;
  declare(app, action);
  use_threads(0);
  try {
    const std::vector<std::string> given(argv + 1, argv + argc);
    check_command(app, given, "");
    std::vector<std::string> arguments = expand_config(app, given);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream errors;
    const int code = app.exit(error, out, errors);
    write_output(out.str());
    if (code == 0) return 0;
    throw UsageError(wrong_usage(error));
  }
  action();
  return 0;
}

int fail(int status, const std::exception& error) {
  write_error(fmt::format("candela: error: {}\n", printable(error.what())));
  return status;
}

/// From static memory: there is no other.
int fail_without_memory() {
  constexpr std::string_view kText =
      "candela: error: out of memory: use a smaller batch, a shorter length or a smaller file\n";
  static_cast<void>(::write(STDERR_FILENO, kText.data(), kText.size()) < 0);
  return kFailed;
}

/// nlohmann's JSON allocates where it is destroyed: out of memory there ends here. What was being written
/// lies aside and goes with the next save.
[[noreturn]] void end_terminated() {
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    ::_exit(fail_without_memory());
  } catch (...) {
  }
  std::abort();
}

int run_to_status(int argc, char** argv) {
  try {
    const int status = run(argc, argv);
    flush_output();
    return status;
  } catch (const Interrupted& stop) {
    write_error(fmt::format("candela: {}\n", stop.what()));
    return kSignal + stop.signal();
  } catch (const ReaderGone&) {
    return kSignal + SIGPIPE;  // as a program ends that the signal is left to
  } catch (const UsageError& error) {
    return fail(kUsage, error);
  } catch (const std::bad_alloc&) {
    return fail_without_memory();
  } catch (const std::exception& error) {
    return fail(kFailed, error);
  }
}

}  // namespace

int main(int argc, char** argv) {
  prepare_process();
  std::set_terminate(end_terminated);
  try {
    return run_to_status(argc, argv);
  } catch (const std::bad_alloc&) {  // while an error was being told
    return fail_without_memory();
  }
}
