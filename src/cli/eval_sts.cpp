#include "cli/eval_sts.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include <candela/core/error.h>
#include <candela/embed/sts.h>
#include <candela/io/hub_cache.h>

#include "cli/options.h"
#include "cli/output.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

/// Of eval without --sts, also: what computes a model, and what prints.
constexpr std::array<std::string_view, 10> kShared = {"--help",      "--model",  "--adapter", "--dtype",
                                                      "--bf16-rope", "--device", "--threads", "--tune",
                                                      "--limit",     "--json"};

}  // namespace

void declare_sts(CLI::App& command, StsOptions& options) {
  CLI::Option* const sts = add_path(
      command, "--sts", options.file,
      "Pairs with scores, for embedders: .tsv as the STS benchmark has it, or JSONL; prints Pearson's "
      "and Spearman's correlation");
  for (CLI::Option* const option : declare_embedding(command, options.embedder)) option->needs(sts);
  for (CLI::Option* const option : declare_table(command, options.table)) option->needs(sts);
}

void check_sts_options(const CLI::App& command) {
  const CLI::Option* const sts = find_option(command, "--sts");
  const bool asked = sts->count() > 0;
  require<UsageError>(asked != (find_option(command, "--data")->count() > 0),
                      "--data or --sts: exactly one of them is required");
  if (!asked) return;
  for (const CLI::Option* const option : command.get_options()) {
    const auto is_shared = [&](std::string_view name) {
      return option->check_lname(std::string(name.substr(2)));
    };
    const std::set<CLI::Option*>& needed = option->get_needs();
    const bool own = option == sts || std::any_of(needed.begin(), needed.end(),
                                                  [&](const CLI::Option* other) { return other == sts; });
    require<UsageError>(option->count() == 0 || own || option->check_lname("config") ||
                            std::any_of(kShared.begin(), kShared.end(), is_shared),
                        "{}: has no effect with --sts; leave it out", option->get_name());
  }
}

void eval_sts(const StsOptions& options, bool json) {
  const Embedder embedder = load_embedder(options.embedder);
  const TextTable pairs = TextTable::read(local_path(options.file, HubKind::Dataset), options.table);
  const StsResult result = evaluate_sts(embedder, pairs, embed_options(options.embedder));
  if (result.cut > 0)
    note(fmt::format("{} of {} texts were longer than {} tokens and cut", result.cut, pairs.texts.size(),
                     embedder.config().max_tokens));
  if (json) {
    const nlohmann::json out = {{"pairs", result.pairs},
                                {"similarity", std::string(to_string(embedder.config().similarity))},
                                {"pearson", result.pearson},
                                {"spearman", result.spearman}};
    return print_out("{}\n", out.dump(2));
  }
  print_out("{} pairs  {} similarity  Pearson {:.5f}  Spearman {:.5f}\n", result.pairs,
            to_string(embedder.config().similarity), result.pearson, result.spearman);
}

}  // namespace candela::cli
