#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include <candela/core/error.h>
#include <candela/embed/index.h>

#include "cli/command.h"
#include "cli/embed_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"

namespace candela::cli {
namespace {

struct SearchCommand {
  EmbedderFlags embedder;
  std::string index;
  std::vector<std::string> build, add, queries;
  std::string field = "text";
  std::string query_prompt_name;
  std::int64_t top_k = 5;
  bool json = false;
  bool quiet = false;
};

Tensor embed_texts(const SearchCommand& command, const Embedder& embedder,
                   const std::vector<std::string>& texts, const EmbedOptions& given, bool quiet) {
  EmbedOptions options = given;
  Progress progress("embed", static_cast<std::int64_t>(texts.size()), "texts", quiet || command.quiet);
  options.progress = [&](std::int64_t done) { progress.update(done); };
  std::int64_t cut = 0;
  Tensor embeddings = embedder.embed(texts, options, &cut);
  progress.finish();
  if (cut > 0)
    note(fmt::format("{} of {} texts were longer than {} tokens and cut", cut, texts.size(),
                     embedder.config().max_tokens));
  return embeddings;
}

void extend(const SearchCommand& command, const Embedder& embedder, Index& index,
            const std::vector<std::string>& files) {
  const std::vector<std::string> texts = read_texts(files, command.field);
  require(!texts.empty(), "search: the files hold no text");
  index.add(texts, embed_texts(command, embedder, texts, embed_options(command.embedder), false));
  index.save(command.index);
  print_out("{}: {} texts\n", command.index, index.size());
}

void print_hits(const SearchCommand& command, const Index& index, const std::string& query,
                const std::vector<Index::Hit>& hits) {
  const auto quoted = [](std::string_view text) {
    return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  if (!command.json) {
    print_out("{}\n", printable(query));
    for (const Index::Hit& hit : hits)
      print_out("{:>8.4f}  {:>6}  {}\n", hit.score, hit.id, printable(index.text(hit.id)));
    return;
  }
  for (const Index::Hit& hit : hits) {
    print_out("{{\"query\": {}, \"id\": {}, \"score\": {:.6f}, \"text\": {}}}\n", quoted(query), hit.id,
              hit.score, quoted(index.text(hit.id)));
  }
}

void search(const SearchCommand& command) {
  require(command.build.empty() || command.add.empty(),
          "search: --build and --add exclude each other; give one of them");
  const Embedder embedder = load_embedder(command.embedder);
  if (!command.build.empty()) {
    const std::int64_t asked = command.embedder.dimensions;
    Index index(embedder.fingerprint(), asked > 0 ? asked : embedder.dimensions(),
                embedder.config().similarity);
    extend(command, embedder, index, command.build);
  }
  Index index = Index::open(command.index);
  index.check_model(embedder, command.index);
  if (!command.add.empty()) extend(command, embedder, index, command.add);
  const bool asks = !command.queries.empty() || (command.build.empty() && command.add.empty());
  if (!asks) return;
  const std::vector<std::string> queries =
      command.queries.empty() ? read_texts({}, command.field) : command.queries;
  EmbedOptions options = embed_options(command.embedder);
  if (!command.query_prompt_name.empty()) options.prompt_name = command.query_prompt_name;
  options.dimensions = index.dimensions() == embedder.dimensions() ? 0 : index.dimensions();
  const auto hits = index.search(embed_texts(command, embedder, queries, options, true), command.top_k);
  for (std::size_t i = 0; i < queries.size(); ++i) print_hits(command, index, queries[i], hits[i]);
}

}  // namespace

void add_search(CLI::App& app, Action& action) {
  auto options = std::make_shared<SearchCommand>();
  CLI::App* command = app.add_subcommand("search", "Find the texts that are most like a question");
  declare_embedder(*command, options->embedder);
  add_path(*command, "--index", options->index, "safetensors file with texts and their vectors")->required();
  add_list(*command, "--build", options->build, "Files of texts (lines, or .jsonl) to make the index of");
  add_list(*command, "--add", options->add, "Files of texts to add to the index");
  add_list(*command, "--query", options->queries,
           "Questions; without --build and --add, else lines of standard input");
  command
      ->add_option("--query-prompt-name", options->query_prompt_name,
                   "Prompt of config_sentence_transformers.json for questions")
      ->check(not_empty());
  add_number(*command, "--top-k", options->top_k, {1, kMostCount}, "Texts to show per question");
  command->add_option("--field", options->field, "Field of a .jsonl file that holds the text")
      ->capture_default_str();
  command->add_flag("--json", options->json, "One JSON object a line");
  command->add_flag("--quiet", options->quiet, "No progress");
  command->add_option("--config", "YAML or JSON file with any of these options; the command line wins");
  command->footer(
      "Example:\n  candela search --model DIR --index book.safetensors --build book.txt\n"
      "  candela search --model DIR --index book.safetensors --query \"a lonely whale\"");
  command->callback([&action, options] { action = [options] { search(*options); }; });
}

}  // namespace candela::cli
