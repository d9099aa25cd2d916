#include <algorithm>
#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/embed/index.h>
#include <candela/io/safetensors.h>
#include <candela/ops/random.h>

#include "support/errors.h"
#include "support/golden.h"

namespace candela {
namespace {

using test::error_of;

Tensor rows(const std::vector<float>& values, std::int64_t width) {
  return Tensor::from_values(values, {static_cast<std::int64_t>(values.size()) / width, width});
}

TEST(Index, GivesTheBestFirstAndTheLowerIdAmongEquals) {
  Index index("m", 2, Similarity::Cosine);
  const std::vector<std::string> texts = {"east", "north", "far east", "west"};
  index.add(texts, rows({1, 0, 0, 1, 5, 0, -1, 0}, 2));
  const auto hits = index.search(rows({2, 0, 0, 1}, 2), 3);
  ASSERT_EQ(hits.size(), 2U);
  ASSERT_EQ(hits[0].size(), 3U);
  EXPECT_EQ(index.text(hits[0][0].id), "east");
  EXPECT_EQ(index.text(hits[0][1].id), "far east");
  EXPECT_NEAR(hits[0][1].score, 1, 1e-6);
  EXPECT_EQ(hits[1][0].id, 1);
  EXPECT_EQ(index.search(rows({1, 0}, 2), 99)[0].size(), 4U);
}

TEST(Index, SearchIsExactAcrossBlocks) {
  constexpr std::int64_t kTexts = 70000;  // more than one block
  Generator generator(3);
  const Tensor embeddings = normal({kTexts, 4}, generator, 0, 1);
  Index index("m", 4, Similarity::Dot);
  index.add(std::vector<std::string>(kTexts, "x"), embeddings);
  const std::vector<float> values = embeddings.to_vector<float>();
  std::vector<Index::Hit> wanted;
  for (std::int64_t i = 0; i < kTexts; ++i) wanted.push_back({i, values[static_cast<std::size_t>(4 * i)]});
  std::stable_sort(wanted.begin(), wanted.end(),
                   [](const Index::Hit& a, const Index::Hit& b) { return a.score > b.score; });
  const auto hits = index.search(rows({1, 0, 0, 0}, 4), 10);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(hits[0][i].id, wanted[i].id) << i;
}

TEST(Index, ASavedIndexIsMappedAndGrows) {
  const auto path = test::scratch_folder("index") / "i.safetensors";
  Index index("m", 2, Similarity::Euclidean);
  index.add(std::vector<std::string>{"a", "", "ü\n"}, rows({0, 0, 1, 1, 3, 4}, 2));
  index.save(path);
  Index again = Index::open(path);
  EXPECT_EQ(again.model(), "m");
  EXPECT_EQ(again.similarity(), Similarity::Euclidean);
  EXPECT_EQ(again.size(), 3);
  EXPECT_EQ(again.text(1), "");
  EXPECT_EQ(again.text(2), "ü\n");
  again.add(std::vector<std::string>{"more"}, rows({9, 9}, 2));
  again.save(path);
  const Index grown = Index::open(path);
  EXPECT_EQ(grown.text(0), "a");
  EXPECT_EQ(grown.text(3), "more");
  const auto hits = grown.search(rows({3, 4}, 2), 1);
  EXPECT_EQ(hits[0][0].id, 2);
  EXPECT_NEAR(hits[0][0].score, 0, 1e-6);
}

TEST(Index, BadFilesAndArgumentsAreToldApart) {
  const auto folder = test::scratch_folder("bad_index");
  write_safetensors(folder / "other.safetensors", {{"embeddings", rows({1, 2}, 2)}});
  EXPECT_EQ(error_of<IoError>([&] { Index::open(folder / "other.safetensors"); }),
            (folder / "other.safetensors").string() + ": is not an index: its metadata has no model");
  write_safetensors(folder / "offsets.safetensors",
                    {{"embeddings", rows({1, 2}, 2)},
                     {"texts", Tensor::from_values(std::vector<std::uint8_t>{65}, {1})},
                     {"offsets", Tensor::from_values(std::vector<std::int64_t>{0, 7}, {2})}},
                    {{"model", "m"}, {"similarity", "dot"}});
  EXPECT_THROW(Index::open(folder / "offsets.safetensors"), IoError);
  Index index("m", 2, Similarity::Dot);
  EXPECT_THROW(index.add(std::vector<std::string>{"a"}, rows({1, 2, 3}, 3)), InvalidArgument);
  EXPECT_THROW(index.search(rows({1, 2, 3}, 3), 1), InvalidArgument);
  EXPECT_THROW(index.search(rows({1, 2}, 2), 0), InvalidArgument);
  EXPECT_THROW(index.text(0), InvalidArgument);
  EXPECT_TRUE(index.search(rows({1, 2}, 2), 3)[0].empty());
}

TEST(Index, AnotherModelIsRefused) {
  const Embedder bert = Embedder::load(test::golden_folder() / "bert");
  const Embedder other = Embedder::load(test::golden_folder() / "mpnet");
  const Index index(bert.fingerprint(), 64, Similarity::Cosine);
  EXPECT_NO_THROW(index.check_model(bert, "i"));
  EXPECT_THROW(index.check_model(other, "i"), InvalidArgument);
}

}  // namespace
}  // namespace candela
