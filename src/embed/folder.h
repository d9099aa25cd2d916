#pragma once

#include <filesystem>

#include <candela/embed/embedder.h>

/// Folders as sentence-transformers writes them.
namespace candela {

/// Whether `folder` has a modules.json.
bool is_sentence_folder(const std::filesystem::path& folder);

struct SentenceFolder {
  /// the folder of the model's files
  std::filesystem::path transformer;
  EmbedderConfig config;
};

/// Reads modules.json and what it names. The model's width is not known here: the pooling's and the first
/// Dense's sizes are checked against it by check_widths().
SentenceFolder read_sentence_folder(const std::filesystem::path& folder);

/// Throws IoError unless each step of `config` takes the width that the one before gives; returns the last.
std::int64_t check_widths(const EmbedderConfig& config, std::int64_t hidden_size, const std::string& folder);

/// Writes modules.json and what it names, but for the model's own files, into `folder`, which exists.
void write_sentence_files(const std::filesystem::path& folder, const EmbedderConfig& config,
                          std::int64_t hidden_size);

}  // namespace candela
