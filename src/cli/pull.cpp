#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <optional>

#include <candela/hub/pull.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

struct PullCommand {
  std::string name;
  std::string revision = "main";
  bool dataset = false;
  std::vector<std::string> include, exclude;
  bool quiet = false;
};

/// The bar of a pull, in MiB, and what is told above it.
class Bar {
 public:
  explicit Bar(bool quiet) : quiet_(quiet) {}

  void update(const PullProgress& progress) {
    constexpr std::uint64_t kMebi = std::uint64_t{1} << 20U;
    if (quiet_) return;
    if (!bar_) {
      bar_.emplace("fetching", static_cast<std::int64_t>((progress.total + kMebi - 1) / kMebi), "MiB");
      start_ = std::chrono::steady_clock::now();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double rate = seconds > 0 ? static_cast<double>(progress.done) / seconds : 0;
    bar_->update(static_cast<std::int64_t>((progress.done + kMebi - 1) / kMebi),
                 fmt::format("{}/s  {}", format_bytes(rate), escaped_name(progress.file)));
  }
  void say(const std::string& text) {
    if (bar_)
      bar_->say(text);
    else if (!quiet_)
      note(text);
  }
  void finish() {
    if (bar_) bar_->finish();
  }

 private:
  bool quiet_;
  std::optional<Progress> bar_;
  std::chrono::steady_clock::time_point start_;
};

void run_pull(const PullCommand& command) {
  const HubKind kind = command.dataset ? HubKind::Dataset : HubKind::Model;
  std::optional<HubName> name = HubName::parse(command.name, kind);
  require<UsageError>(name && name->inside.empty(),
                      "NAME: must be as on the Hub, ORGANISATION/NAME; got \"{}\"", command.name);
  require<UsageError>(command.revision == "main" || name->revision == "main",
                      "--revision: {} has one of its own; leave one of them out", command.name);
  if (name->revision == "main") name->revision = command.revision;
  name = HubName::parse(name->id + "@" + name->revision, kind);
  require<UsageError>(name.has_value(), "--revision: must be a branch, a tag or a commit; got \"{}\"",
                      command.revision);
  PullOptions options = PullOptions::from_environment();
  options.include = command.include;
  options.exclude = command.exclude;
  Bar bar(command.quiet);
  options.progress = [&](const PullProgress& progress) { bar.update(progress); };
  options.note = [&](const std::string& text) { bar.say(text); };
  const PullResult result = pull(*name, options);
  bar.finish();
  if (!command.quiet)
    note(fmt::format("{} files of {}, {} of them fetched now", result.files, name->id,
                     format_bytes(static_cast<double>(result.bytes))));
  print_out("{}\n", result.snapshot.string());
}

}  // namespace

void add_pull(CLI::App& app, Action& action) {
  auto options = std::make_shared<PullCommand>();
  CLI::App* command = app.add_subcommand("pull", "Fetch a model or data set of the Hugging Face Hub");
  add_path(*command, "name", options->name,
           "Its name there, as in Qwen/Qwen3-0.6B; NAME@REVISION names a revision")
      ->required();
  add_path(*command, "--revision", options->revision, "Branch, tag or commit")->capture_default_str();
  command->add_flag("--dataset", options->dataset, "It is a data set");
  add_list(
      *command, "--include", options->include,
      "Patterns of files to fetch, such as '*.csv'; none: what Candela reads (of a model safetensors, JSON, "
      "Jinja and tokenizer; of a data set rows and texts)");
  add_list(*command, "--exclude", options->exclude, "Patterns of files to leave out");
  command->add_flag("--quiet", options->quiet, "No progress bar");
  command->footer(
      "Fetches into the cache that huggingface_hub uses (HF_HUB_CACHE, or hub in HF_HOME, or "
      "~/.cache/huggingface/hub) and prints the folder. --model, --adapter and --data then take the name.\n"
      "Stopped, it goes on where it was. Sizes and SHA-256 are checked. HF_TOKEN, or the file token in "
      "HF_HOME, "
      "opens gated models; HF_ENDPOINT names another server.\n"
      "Example:\n  candela pull Qwen/Qwen3-0.6B && candela finetune --model Qwen/Qwen3-0.6B --data "
      "rows.jsonl "
      "--output out");
  command->callback([&action, options] { action = [options] { run_pull(*options); }; });
}

}  // namespace candela::cli
