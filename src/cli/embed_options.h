#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include <candela/embed/embedder.h>

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

void declare_embedder(CLI::App& command, EmbedderFlags& flags);

/// Sets up computing and loads the model.
Embedder load_embedder(const EmbedderFlags& flags);

EmbedOptions embed_options(const EmbedderFlags& flags);

/// The lines of files, or of standard input without any. Of a .jsonl file, the texts under `field`.
std::vector<std::string> read_texts(const std::vector<std::string>& files, const std::string& field);

}  // namespace candela::cli
