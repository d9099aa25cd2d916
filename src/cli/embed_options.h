#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include <candela/embed/embedder.h>
#include <candela/embed/text_rows.h>

#include "cli/model_options.h"

/// What `embed` and `search` share.
namespace candela::cli {

struct EmbedderFlags {
  ModelOptions model;
  std::string prompt_name;
  std::string prompt;
  std::string pooling;
  bool no_normalize = false;
  std::int64_t dimensions = 0;
  std::int64_t batch_tokens = 4096;
};

/// Declares --model, --adapter and all that follows.
void declare_embedder(CLI::App& command, EmbedderFlags& flags);
/// The options of an embedder alone, without those of its model.
std::vector<CLI::Option*> declare_embedding(CLI::App& command, EmbedderFlags& flags);

/// Sets up computing and loads the model with its adapter.
Embedder load_embedder(const EmbedderFlags& flags);
/// The model without an adapter, on `device`.
Embedder load_base_embedder(const EmbedderFlags& flags, Device device);

EmbedOptions embed_options(const EmbedderFlags& flags);

/// The lines of files, or of standard input without any. Of a .jsonl file, the texts under `field`.
std::vector<std::string> read_texts(const std::vector<std::string>& files, const std::string& field);

/// Declares --fields, --score-field and --max-score.
std::vector<CLI::Option*> declare_table(CLI::App& command, TextTableOptions& options);

}  // namespace candela::cli
