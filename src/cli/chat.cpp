#include <chrono>
#include <fmt/format.h>
#include <memory>

#include <candela/core/atomic_file.h>
#include <candela/generate/generate.h>

#include "cli/chat_commands.h"
#include "cli/chat_format.h"
#include "cli/line_reader.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/sampling_options.h"

namespace candela::cli {
namespace {

struct ChatCommand {
  ModelOptions model;
  GenerateOptions generate;
  SamplingFlags sampling;
  std::string system, chat_template, chat_options;
};

constexpr const char* kHelp =
    "/system TEXT   the system message from here on; without TEXT, none\n"
    "/reset         forget the conversation\n"
    "/save FILE     write the conversation as a JSONL row that finetune reads\n"
    "/adapter NAME  put the adapter in folder NAME on the model; off: none\n"
    "/quit          end (Ctrl-D too)\n";

/// A conversation with a model.
class Session {
 public:
  explicit Session(ChatCommand command)
      : command_(std::move(command)),
        config_(ModelConfig::load(command_.model.model)),
        tokenizer_(Tokenizer::load(command_.model.model)),
        options_(parse_chat_options(command_.chat_options)),
        system_(command_.system),
        format_(command_.model, command_.chat_template, tokenizer_, config_) {
    command_.generate.sampling = resolve_sampling(command_.sampling, config_);
    loaded_ = load(command_.model);
  }

  void run() {
    LineReader reader;
    if (reader.interactive()) {
      if (!LineReader::can_edit())
        note("this build has no libedit: lines cannot be edited, and there is no history");
      print_out("/help lists the commands.\n");
    }
    while (const std::optional<std::string> line = reader.read("> ")) {
      if (line->find_first_not_of(" \t") == std::string::npos) continue;
      try {
        if (line->starts_with('/')) {
          if (!obey(*line)) break;
        } else {
          answer(*line);
        }
      } catch (const DeviceError&) {
        throw;
      } catch (const Error& error) {
        // A mistyped name or a chat that has become too long need not end the session.
        write_error(fmt::format("candela: error: {}\n", printable(error.what())));
      }
    }
    flush_output();
  }

 private:
  /// False: the session is to end.
  bool obey(const std::string& line) {
    const std::size_t blank = line.find(' ');
    const std::string name = line.substr(0, blank);
    const std::size_t start = blank == std::string::npos ? blank : line.find_first_not_of(' ', blank);
    const std::string rest = start == std::string::npos ? "" : line.substr(start);
    if (name == "/quit" || name == "/exit") return false;
    if (name == "/help")
      write_output(kHelp);
    else if (name == "/system")
      system_ = rest;
    else if (name == "/reset")
      messages_.clear();
    else if (name == "/save")
      save(rest);
    else if (name == "/adapter")
      adapt(rest);
    else
      throw InvalidArgument(fmt::format("unknown command {}; /help lists them", name));
    return true;
  }

  ChatMessages conversation() const {
    ChatMessages all;
    if (!system_.empty()) all.push_back({{"role", "system"}, {"content", system_}});
    all.insert(all.end(), messages_.begin(), messages_.end());
    return all;
  }

  void answer(const std::string& text) {
    messages_.push_back({{"role", "user"}, {"content", text}});
    try {
      const std::vector<TokenId> ids = format_.encode(conversation(), options_);
      command_.generate.stop_tokens = format_.stop_ids();
      TextGenerator generator(*loaded_.model, tokenizer_);
      const auto begin = std::chrono::steady_clock::now();
      const auto show = [](std::string_view part) {
        write_text(part);
        flush_output();
        return true;
      };
      const Generation made = generator.generate(ids, command_.generate, show, &prefix_);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      write_output("\n");
      flush_output();
      write_error(
          fmt::format("candela: {} tokens, {:.1f} tok/s with the {} tokens in front, of which {} were kept\n",
                      made.tokens.size(), static_cast<double>(made.tokens.size()) / seconds,
                      made.prompt_tokens, made.cached_tokens));
      messages_.push_back({{"role", "assistant"}, {"content", made.text}});
    } catch (...) {
      messages_.pop_back();
      throw;
    }
  }

  void save(const std::string& file) {
    require(!file.empty(), "/save needs the name of a file");
    const nlohmann::ordered_json row = {{"messages", conversation()}};
    AtomicFile out(file);
    out.write(row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    out.commit();
    note(fmt::format("saved {} messages in {}", messages_.size(), file));
  }

  void adapt(const std::string& name) {
    require(!name.empty(), "/adapter needs the folder of an adapter, or off");
    prefix_.clear();
    if (loaded_.lora) loaded_.lora->detach();
    loaded_.lora.reset();
    command_.model.adapter.clear();
    if (name != "off") {
      loaded_.lora = Lora::load(*loaded_.model, name);
      for (const std::string& text : loaded_.lora->notes()) note(text);
      command_.model.adapter = name;
    }
    format_ = ChatFormat(command_.model, command_.chat_template, tokenizer_, config_);
  }

  ChatCommand command_;
  ModelConfig config_;
  Tokenizer tokenizer_;
  nlohmann::ordered_json options_;
  std::string system_;
  ChatFormat format_;
  LoadedModel loaded_;
  ChatMessages messages_;
  /// What the model has seen of the conversation, so that a turn computes only what is new.
  PrefixCache prefix_;
};

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<ChatCommand>();
  options->generate.max_tokens = 512;
  CLI::App* command = app.add_subcommand("chat", "Talk with a model, in its own chat template");
  declare_model_options(*command, options->model);
  command->add_option("--system", options->system, "The system message");
  add_path(*command, "--chat-template", options->chat_template,
           "Jinja file to use in place of the model's chat template");
  command->add_option(
      "--chat-options", options->chat_options,
      "JSON object with further variables of the template, as in '{\"enable_thinking\": false}'");
  add_number(*command, "--max-tokens", options->generate.max_tokens, {1, kMostCount},
             "Most tokens of one answer");
  declare_sampling_options(*command, options->sampling, options->generate.seed);
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(std::string("Example:\n  candela chat --model DIR --adapter out/mine\nIn the session:\n") +
                  kHelp +
                  "Standard input that is no terminal is read line by line: a message, or a command, each.");
  command->callback([&action, options] { action = [options] { Session(*options).run(); }; });
}

}  // namespace candela::cli
