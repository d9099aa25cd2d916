#include <cmath>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/embed/embedder.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>

#include "support/errors.h"
#include "support/golden.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::values_of;

const std::vector<std::vector<TokenId>> kRows = {{5, 6, 7}, {9}, {10, 11}};

/// A folder of sentence-transformers around the golden bert, written file by file.
class SentenceFolderTest : public testing::Test {
 protected:
  SentenceFolderTest() : folder_(test::scratch_folder("sentence")) {
    for (const char* name : {"config.json", "model.safetensors"})
      fs::copy_file(test::golden_folder() / "bert" / name, folder_ / name);
    modules({"Transformer", "Pooling", "Normalize"});
    pooling(R"({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true})");
  }

  void write(const fs::path& file, const std::string& text) const {
    fs::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  void modules(const std::vector<std::string>& names) const {
    std::string text;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::string path = i == 0 ? "" : std::to_string(i) + "_" + names[i];
      text += (i == 0 ? "" : ", ") + ("{\"idx\": " + std::to_string(i)) + ", \"name\": \"" +
              std::to_string(i) + "\", \"path\": \"" + path + R"(", "type": "sentence_transformers.models.)" +
              names[i] + "\"}";
    }
    write("modules.json", "[" + text + "]");
  }
  void pooling(const std::string& text) const { write("1_Pooling/config.json", text); }
  std::vector<double> embeddings() const { return values_of(Embedder::load(folder_).embed_ids(kRows)); }

  fs::path folder_;
};

TEST_F(SentenceFolderTest, PoolingModesAreThoseOfTheFile) {
  const std::vector<Tensor> states = Embedder::load(folder_).hidden_states(kRows);
  const auto pooled = [&](const char* mode) {
    modules({"Transformer", "Pooling"});
    pooling(std::string("{\"") + mode + "\": true}");
    return embeddings();
  };
  const std::vector<double> first = pooled("pooling_mode_cls_token");
  const std::vector<double> last = pooled("pooling_mode_lasttoken");
  const std::vector<double> largest = pooled("pooling_mode_max_tokens");
  const std::vector<double> mean = pooled("pooling_mode_mean_tokens");
  for (std::size_t row = 0; row < kRows.size(); ++row) {
    const std::vector<double> state = values_of(states[row]);
    for (std::size_t d = 0; d < 64; ++d) {
      double sum = 0;
      double most = state[d];
      for (std::size_t t = 0; t < kRows[row].size(); ++t) {
        sum += state[t * 64 + d];
        most = std::max(most, state[t * 64 + d]);
      }
      EXPECT_NEAR(first[row * 64 + d], state[d], 1e-6);
      EXPECT_NEAR(last[row * 64 + d], state[(kRows[row].size() - 1) * 64 + d], 1e-6);
      EXPECT_NEAR(largest[row * 64 + d], most, 1e-6);
      EXPECT_NEAR(mean[row * 64 + d], sum / static_cast<double>(kRows[row].size()), 1e-6);
    }
  }
}

TEST_F(SentenceFolderTest, TwoModesStandSideBySide) {
  modules({"Transformer", "Pooling"});
  pooling(R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true})");
  EXPECT_EQ(Embedder::load(folder_).embed_ids(kRows).shape(), (Shape{3, 128}));
}

TEST_F(SentenceFolderTest, FewerDimensionsAreOfUnitLengthAgain) {
  const Embedder embedder = Embedder::load(folder_);
  EmbedOptions options;
  options.dimensions = 16;
  const std::vector<double> some = values_of(embedder.embed_ids(kRows, options));
  const std::vector<double> all = values_of(embedder.embed_ids(kRows));
  for (std::size_t row = 0; row < kRows.size(); ++row) {
    double length = 0;
    for (std::size_t d = 0; d < 16; ++d) length += all[row * 64 + d] * all[row * 64 + d];
    for (std::size_t d = 0; d < 16; ++d)
      EXPECT_NEAR(some[row * 16 + d], all[row * 64 + d] / std::sqrt(length), 1e-6);
  }
  options.dimensions = 65;
  EXPECT_EQ(error_of<InvalidArgument>([&] { embedder.embed_ids(kRows, options); }),
            "embedder: dimensions must be in [1, 64], or 0 for all; got 65");
}

TEST_F(SentenceFolderTest, DenseIsAppliedAndMustFit) {
  modules({"Transformer", "Pooling", "Dense"});
  write("2_Dense/config.json",
        R"({"in_features": 64, "out_features": 2, "bias": true,
            "activation_function": "torch.nn.modules.activation.Tanh"})");
  std::vector<float> weight(128, 0.0F);
  weight[3] = 2;    // output 0 is twice element 3
  weight[64] = -1;  // output 1 is minus element 0
  write_safetensors(folder_ / "2_Dense/model.safetensors",
                    {{"linear.weight", Tensor::from_values(weight, {2, 64})},
                     {"linear.bias", Tensor::from_values(std::vector<float>{0.5F, 0}, {2})}});
  const std::vector<double> made = embeddings();
  modules({"Transformer", "Pooling"});
  const std::vector<double> plain = embeddings();
  ASSERT_EQ(made.size(), 6U);
  for (std::size_t row = 0; row < kRows.size(); ++row) {
    EXPECT_NEAR(made[row * 2], std::tanh(2 * plain[row * 64 + 3] + 0.5), 1e-6);
    EXPECT_NEAR(made[row * 2 + 1], std::tanh(-plain[row * 64]), 1e-6);
  }
  modules({"Transformer", "Pooling", "Dense"});
  pooling(R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true})");
  EXPECT_EQ(error_of<IoError>([&] { Embedder::load(folder_); }),
            folder_.string() + ": in_features of Dense must be 128, the width it is given; got 64");
}

TEST_F(SentenceFolderTest, WhatIsNotKnownIsRefused) {
  modules({"Transformer", "Pooling", "LSTM"});
  EXPECT_EQ(error_of<Unsupported>([&] { Embedder::load(folder_); }),
            (folder_ / "modules.json").string() +
                ": modules must be Transformer, Pooling, Normalize or Dense; got LSTM");
  modules({"Transformer", "Normalize"});
  EXPECT_EQ(error_of<IoError>([&] { Embedder::load(folder_); }),
            (folder_ / "modules.json").string() + ": a Pooling must follow the Transformer");
  modules({"Transformer", "Pooling"});
  pooling(R"({"pooling_mode_weightedmean_tokens": true, "pooling_mode_mean_tokens": true})");
  EXPECT_THROW(Embedder::load(folder_), Unsupported);
  pooling(R"({"pooling_mode_mean_tokens": false})");
  EXPECT_THROW(Embedder::load(folder_), IoError);
  write("modules.json", R"([{"idx": 0, "path": "../..", "type": "a.Transformer"}])");
  EXPECT_THROW(Embedder::load(folder_), IoError);
}

TEST_F(SentenceFolderTest, PromptsAndSimilarityAreRead) {
  write("config_sentence_transformers.json",
        R"({"prompts": {"query": "query: ", "passage": ""}, "default_prompt_name": "query",
            "similarity_fn_name": "dot"})");
  const Embedder embedder = Embedder::load(folder_);
  EXPECT_EQ(embedder.config().prompts.at("query"), "query: ");
  EXPECT_EQ(embedder.config().default_prompt, "query");
  EXPECT_EQ(embedder.config().similarity, Similarity::Dot);
  write("config_sentence_transformers.json", R"({"prompts": {}, "default_prompt_name": "query"})");
  EXPECT_THROW(Embedder::load(folder_), IoError);
  write("config_sentence_transformers.json", R"({"similarity_fn_name": "jaccard"})");
  EXPECT_THROW(Embedder::load(folder_), Unsupported);
}

TEST_F(SentenceFolderTest, ASavedFolderGivesTheSameEmbeddings) {
  write("config_sentence_transformers.json", R"({"prompts": {"query": "q: "}})");
  write("sentence_bert_config.json", R"({"max_seq_length": 17, "do_lower_case": false})");
  const fs::path saved = test::scratch_folder("saved") / "model";
  const Embedder embedder = Embedder::load(folder_);
  EXPECT_EQ(embedder.config().max_tokens, 17);
  embedder.save(saved);
  const Embedder again = Embedder::load(saved);
  EXPECT_EQ(values_of(again.embed_ids(kRows)), values_of(embedder.embed_ids(kRows)));
  EXPECT_EQ(again.config().prompts, embedder.config().prompts);
  EXPECT_EQ(again.config().max_tokens, 17);
  EXPECT_EQ(again.fingerprint(), embedder.fingerprint());
}

TEST(Similarities, FollowTheirDefinitions) {
  const Tensor a = Tensor::from_values(std::vector<float>{3, 4}, {1, 2});
  const Tensor b = Tensor::from_values(std::vector<float>{3, 4, 0, 0, 4, -3}, {3, 2});
  EXPECT_EQ(values_of(similarities(a, b, Similarity::Dot)), (std::vector<double>{25, 0, 0}));
  EXPECT_EQ(values_of(similarities(a, b, Similarity::Manhattan)), (std::vector<double>{0, -7, -8}));
  const std::vector<double> euclidean = values_of(similarities(a, b, Similarity::Euclidean));
  EXPECT_NEAR(euclidean[1], -5, 1e-6);
  EXPECT_NEAR(euclidean[2], -std::sqrt(50.0), 1e-6);
  const std::vector<double> cosine = values_of(similarities(a, b, Similarity::Cosine));
  EXPECT_NEAR(cosine[0], 1, 1e-6);
  EXPECT_EQ(cosine[1], 0) << "a row of zeros has no direction";
}

}  // namespace
}  // namespace candela
