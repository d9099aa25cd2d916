#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <candela/core/error.h>

namespace candela {

struct TextTableOptions {
  /// The fields of the texts, in their order: anchor, positive, negatives, or the two of a pair. Empty:
  /// anchor, positive and negative (or negative_1, negative_2, ...), or sentence1 and sentence2, as the first
  /// row has them.
  std::vector<std::string> fields{};
  /// The field of the score; empty: score, where the first row has it.
  std::string score_field{};
  /// Scores are divided by it.
  double max_score = 1;
  /// Rows to read; 0: all.
  std::int64_t limit = 0;
};

/// Rows of as many texts each, for the training and the judging of embedders.
struct TextTable {
  std::string file;
  /// texts per row, at least 2
  std::int64_t columns = 2;
  /// row by row
  std::vector<std::string> texts;
  /// one per row, or empty
  std::vector<float> scores;

  std::int64_t rows() const { return static_cast<std::int64_t>(texts.size()) / columns; }
  bool scored() const { return !scores.empty(); }
  /// The texts of one column, [rows].
  std::vector<std::string> column(std::int64_t index) const;

  /// Reads a .tsv file as the STS benchmark is written (score, sentence, sentence, ...; no quotes, no header)
  /// or with the names of its columns in the first line, or a JSONL file of any other name; a field may also
  /// hold a list of texts, each a column. IoError naming file, line and field for a row that lacks a text,
  /// has fewer columns than are named or another number of texts than the first, or a score that is not a
  /// finite number.
  static TextTable read(const std::filesystem::path& file, const TextTableOptions& options = {});
};

}  // namespace candela
