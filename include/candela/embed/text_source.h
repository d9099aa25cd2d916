#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <candela/embed/embedder.h>
#include <candela/embed/text_rows.h>
#include <candela/train/batch_source.h>
#include <candela/train/trainer.h>

namespace candela {

/// A TextTable as ids.
struct TokenTable {
  std::int64_t columns = 2;
  /// row by row, with their prompts
  Embedder::TokenRows texts;
  /// Equal texts have equal numbers.
  std::vector<std::int32_t> names;
  /// one per row, or empty
  std::vector<float> scores;

  std::int64_t rows() const { return static_cast<std::int64_t>(texts.ids.size()) / columns; }
};

/// Tokenizes a table; `query` holds the prompt of the first column, `passage` that of the others. Throws as
/// Embedder::embed.
TokenTable tokenize_table(const Embedder& embedder, const TextTable& table, const EmbedOptions& query,
                          const EmbedOptions& passage);

struct TextSourceOptions {
  /// Tokens of one forward pass, but at least one row. A step of more is several batches.
  std::int64_t batch_tokens = 16384;
  /// No text twice in a step, where the rows allow it: as a negative, a text's double would be a false one.
  bool distinct = true;
  /// Once, not shuffled (with `distinct`, rows whose texts recur come first); for validation.
  bool validation = false;
};

/// Batches of texts for an EmbedObjective: TrainOptions::batch_size rows make a step, drawn anew in each
/// epoch by TrainOptions::seed. Accumulation is 1: a step of any size is one batch to the loss.
class TextSource final : public BatchSource {
 public:
  /// `positions` is Backbone::positions_of. Uses batch_size, epochs, max_steps and seed of `train`. The table
  /// must outlive it. InvalidArgument for an empty table or accumulation above 1.
  TextSource(const TokenTable& table,
             std::function<std::vector<std::int32_t>(std::span<const std::int64_t>)> positions,
             const TrainOptions& train, const TextSourceOptions& options);
  ~TextSource() override;

  std::vector<HostBatch> next() override;
  std::string place() const override;
  void restore(std::string_view place) override;
  TrainLength length() const override;
  std::vector<HostBatch> planned() const override;
  bool accumulates() const override { return planned_passes() > 1; }
  std::size_t planned_passes() const override;
  void check(std::int64_t vocab_size) const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace candela
