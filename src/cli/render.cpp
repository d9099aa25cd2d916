#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include <candela/io/chat_template.h>

#include "cli/chat_commands.h"
#include "cli/input.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/usage.h"
#include "io/json.h"

namespace candela::cli {
namespace {

struct RenderOptions {
  std::string file, model;
};

ChatTemplate load_template(const RenderOptions& options) {
  if (options.file.empty() == options.model.empty())
    throw UsageError("--template, --model: one of them is required, and only one");
  if (!options.file.empty()) return ChatTemplate::parse(io::read_file(options.file), options.file);
  std::optional<ChatTemplate> found = ChatTemplate::load(options.model);
  require<IoError>(
      found.has_value(),
      "{}: has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); name one "
      "with --template",
      options.model);
  return *found;
}

void render(const RenderOptions& options) {
  const ChatTemplate chat_template = load_template(options);
  const auto text_of = [](const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  std::size_t number = 0;
  while (const std::optional<std::string> row = read_input_line()) {
    const std::string& line = *row;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::string answer;
    try {
      answer = text_of(chat_template.render(line, fmt::format("row {}", number)));
    } catch (const TemplateError& error) {
      answer = text_of({{"error", error.what()}});
    }
    print_out("{}\n", answer);
  }
}

}  // namespace

void add_render(CLI::App& app, Action& action) {
  auto options = std::make_shared<RenderOptions>();
  CLI::App* command = app.add_subcommand(
      "render",
      "Render chats, one JSON object a line from standard input, by a chat template: one JSON string a line");
  add_path(*command, "--template", options->file, "Jinja file");
  add_path(*command, "--model", options->model,
           "Folder of a model: its chat_template.jinja, or chat_template of its tokenizer_config.json");
  command->footer(
      "A row has \"messages\" and, where wanted, \"tools\", \"add_generation_prompt\", \"kwargs\" (further "
      "variables), "
      "\"bos_token\", \"eos_token\" and \"now\".\nA row that the template refuses gives {\"error\": ...}, "
      "and the next one "
      "is rendered.\n"
      "Example:\n  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | candela render "
      "--model DIR");
  command->callback([&action, options] { action = [options] { render(*options); }; });
}

}  // namespace candela::cli
