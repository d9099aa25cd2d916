#include <gtest/gtest.h>

#include <candela/embed/text_source.h>

#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;

/// Rows of two texts: the first has one token, the second the rest of the row's.
TokenTable table_of(const std::vector<std::size_t>& tokens) {
  TokenTable table;
  table.columns = 2;
  for (const std::size_t count : tokens) {
    for (const std::size_t size : {std::size_t{1}, count - 1}) {
      table.texts.ids.emplace_back(size, 3);
      table.texts.skipped.push_back(0);
      table.names.push_back(static_cast<std::int32_t>(table.names.size()));
    }
    table.scores.push_back(0.5F);
  }
  return table;
}

TextSource source_of(const TokenTable& table, std::int64_t batch_tokens) {
  TrainOptions train;
  train.batch_size = 3;
  TextSourceOptions options;
  options.batch_tokens = batch_tokens;
  const auto positions = [](std::span<const std::int64_t> ids) {
    return std::vector<std::int32_t>(ids.size());
  };
  return TextSource(table, positions, train, options);
}

/// The two longest rows do not fit beside each other; the longest and the shortest do.
TEST(TextSource, PlansTheLargestBatchThatAStepCanHave) {
  const TokenTable table = table_of({9, 9, 7});
  EXPECT_EQ(source_of(table, 16).planned().at(0).tokens, 16);
  EXPECT_EQ(source_of(table, 15).planned().at(0).tokens, 9);
  EXPECT_EQ(source_of(table, 64).planned().at(0).tokens, 25);
}

/// Rope of the type `dynamic` goes by the longest text, not by all that lie behind each other.
TEST(TextSource, ABatchKnowsItsLongestText) {
  const TokenTable table = table_of({9, 5, 7});
  EXPECT_EQ(source_of(table, 64).next().at(0).longest, 8);
}

TEST(TextSource, APlaceIsThatOfTheSameTextsAndScores) {
  TokenTable table = table_of({4, 5});
  const std::string place = source_of(table, 64).place();
  EXPECT_NO_THROW(source_of(table, 64).restore(place));
  table.scores[1] = 0.25F;
  EXPECT_NE(error_of<IoError>([&] { source_of(table, 64).restore(place); }).find("the data must be those"),
            std::string::npos);
  for (const char* bad : {"nonsense", "[1]", "{}", R"({"epoch":0,"step":0,"rows":2,"data":5})"})
    EXPECT_NE(error_of<IoError>([&] { source_of(table, 64).restore(bad); }), "") << bad;
}

}  // namespace
}  // namespace candela
