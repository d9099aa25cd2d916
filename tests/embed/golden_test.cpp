#include "support/golden.h"

#include <gtest/gtest.h>

#include <candela/core/grad.h>
#include <candela/embed/embedder.h>
#include <candela/ops/copy.h>

namespace candela {
namespace {

using test::golden_folder;
using test::golden_values;
using test::relative_error;
using test::values_of;

struct EmbedderCase {
  const char* folder;
  /// the tensor with the normalised embeddings
  const char* pooled;

  friend void PrintTo(const EmbedderCase& shown, std::ostream* out) { *out << shown.folder; }
};

/// What transformers computed for padded batches of tiny random embedders.
class GoldenEmbedder : public testing::TestWithParam<EmbedderCase> {
 protected:
  GoldenEmbedder()
      : embedder_(Embedder::load(golden_folder() / GetParam().folder)),
        expected_(SafetensorsReader::open(golden_folder() / GetParam().folder / "expected.safetensors")),
        shape_(expected_.tensor("input_ids").shape()) {
    const auto ids = expected_.tensor("input_ids").to_vector<std::int64_t>();
    const auto mask = expected_.tensor("attention_mask").to_vector<std::int64_t>();
    for (std::int64_t row = 0; row < shape_[0]; ++row) {
      std::vector<TokenId> tokens;
      std::vector<std::size_t> places;
      for (std::int64_t t = 0; t < shape_[1]; ++t) {
        const auto at = static_cast<std::size_t>(row * shape_[1] + t);
        if (mask[at] == 0) continue;
        tokens.push_back(static_cast<TokenId>(ids[at]));
        places.push_back(at);
      }
      rows_.push_back(tokens);
      places_.push_back(places);
    }
  }

  Embedder embedder_;
  SafetensorsReader expected_;
  Shape shape_;
  std::vector<std::vector<TokenId>> rows_;
  std::vector<std::vector<std::size_t>> places_;  // of the tokens in the padded batch
};

TEST_P(GoldenEmbedder, HiddenStatesOfTheTokensAgree) {
  const std::vector<double> whole = golden_values(expected_, "last_hidden_state");
  const auto width = static_cast<std::size_t>(embedder_.model().config().hidden_size);
  const std::vector<Tensor> states = embedder_.hidden_states(rows_);
  ASSERT_EQ(states.size(), rows_.size());
  for (std::size_t row = 0; row < states.size(); ++row) {
    std::vector<double> wanted;
    for (const std::size_t place : places_[row]) {
      const auto first = whole.begin() + static_cast<std::ptrdiff_t>(place * width);
      wanted.insert(wanted.end(), first, first + static_cast<std::ptrdiff_t>(width));
    }
    EXPECT_LE(relative_error(values_of(states[row]), wanted), 1e-5) << "row " << row;
  }
}

TEST_P(GoldenEmbedder, EmbeddingsAgreeInOneBatchAndRowByRow) {
  const std::vector<double> wanted = golden_values(expected_, GetParam().pooled);
  EXPECT_LE(relative_error(values_of(embedder_.embed_ids(rows_)), wanted), 1e-5);
  EmbedOptions one_by_one;
  one_by_one.batch_tokens = 1;
  EXPECT_LE(relative_error(values_of(embedder_.embed_ids(rows_, one_by_one)), wanted), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Transformers, GoldenEmbedder,
                         testing::Values(EmbedderCase{"bert", "mean_pooled_normalized"},
                                         EmbedderCase{"mpnet", "mean_pooled_normalized"},
                                         EmbedderCase{"xlm_roberta", "mean_pooled_normalized"},
                                         EmbedderCase{"roberta", "mean_pooled_normalized"},
                                         EmbedderCase{"roberta_masked_lm", "mean_pooled_normalized"},
                                         EmbedderCase{"modernbert", "mean_pooled_normalized"},
                                         EmbedderCase{"modernbert_masked_lm", "mean_pooled_normalized"},
                                         EmbedderCase{"qwen3_embedding", "last_pooled_normalized"}),
                         [](const auto& param_info) { return std::string(param_info.param.folder); });

}  // namespace
}  // namespace candela
