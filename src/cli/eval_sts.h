#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include <candela/embed/text_rows.h>

#include "cli/embed_options.h"

/// `eval --sts`: how well the similarities of an embedder follow human scores.
namespace candela::cli {

struct StsOptions {
  /// the pairs; empty: none were asked for
  std::string file;
  EmbedderFlags embedder;
  TextTableOptions table;
};

/// Declares --sts and what goes with it.
void declare_sts(CLI::App& command, StsOptions& options);

/// UsageError unless exactly one of --data and --sts was given, and no option that goes with the other.
void check_sts_options(const CLI::App& command);

void eval_sts(const StsOptions& options, bool json);

}  // namespace candela::cli
