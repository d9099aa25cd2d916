#include <cmath>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

#include <candela/embed/sts.h>
#include <candela/embed/text_rows.h>

#include "support/errors.h"
#include "support/golden.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using Strings = std::vector<std::string>;

class TextTables : public testing::Test {
 protected:
  TextTables() : folder_(test::scratch_folder("texts")) {}
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  std::string read_error(const std::string& name, const std::string& text,
                         const TextTableOptions& options = {}) const {
    const fs::path file = write(name, text);
    std::string error = error_of<IoError>([&] { TextTable::read(file, options); });
    if (error.starts_with(file.string())) error.erase(0, file.string().size());
    return error;
  }
  fs::path folder_;
};

TEST_F(TextTables, TheStsBenchmarkIsSplitOnTabsAlone) {
  const fs::path file = write("sts.tsv", "3.6\tA \"cat\tB\timages\textra\r\n\n0\tC\tD\"\tnews\n");
  TextTableOptions options;
  options.max_score = 5;
  const TextTable table = TextTable::read(file, options);
  EXPECT_EQ(table.texts, (Strings{"A \"cat", "B", "C", "D\""}));
  EXPECT_EQ(table.scores, (std::vector<float>{0.72F, 0}));
  EXPECT_EQ(table.column(1), (Strings{"B", "D\""}));
}

TEST_F(TextTables, AByteOrderMarkIsNoTextAndOtherBytesMustBeUtf8) {
  const TextTable marked = TextTable::read(write("m.tsv",
                                                 "\xEF\xBB\xBF"
                                                 "0.5\tA\tB\n"));
  EXPECT_EQ(marked.texts, (Strings{"A", "B"}));
  EXPECT_EQ(marked.scores, (std::vector<float>{0.5F}));
  EXPECT_EQ(read_error("latin.tsv", "0.5\tA\tB\n0.5\tA\tB\xE9\n"),
            ":2: must be UTF-8; save the file as UTF-8");
}

TEST_F(TextTables, NamedColumnsAndFieldsAreTheSame) {
  const TextTable tabs = TextTable::read(write("a.tsv", "positive\tanchor\tnegative\nP\tA\tN\n"));
  EXPECT_EQ(tabs.texts, (Strings{"A", "P", "N"}));
  EXPECT_FALSE(tabs.scored());
  const TextTable lines =
      TextTable::read(write("a.jsonl", R"({"anchor": "A", "positive": "P", "negative": ["N", "M"]})"
                                       "\n"));
  EXPECT_EQ(lines.columns, 4);
  EXPECT_EQ(lines.texts, (Strings{"A", "P", "N", "M"}));
  const TextTable numbered = TextTable::read(
      write("n.jsonl", R"({"anchor": "A", "positive": "P", "negative_1": "N", "negative_2": "M"})"));
  EXPECT_EQ(numbered.texts, lines.texts);
  TextTableOptions options;
  options.fields = {"q", "d"};
  options.score_field = "s";
  const TextTable named = TextTable::read(write("b.jsonl", R"({"q": "Q", "d": "D", "s": 0.5})"), options);
  EXPECT_EQ(named.texts, (Strings{"Q", "D"}));
  EXPECT_EQ(named.scores, (std::vector<float>{0.5F}));
}

TEST_F(TextTables, WhatIsWrongIsNamedWithItsLine) {
  EXPECT_EQ(read_error("e.jsonl", R"({"question": "Q", "answer": "A"})"),
            ":1: must have the fields anchor and positive, or sentence1 and sentence2; got answer, question: "
            "name them with --fields");
  EXPECT_EQ(read_error("f.jsonl",
                       "{\"anchor\": \"A\", \"positive\": \"P\"}\n{\"anchor\": \"\", \"positive\": \"P\"}"),
            ":2: anchor must be a text or a list of texts, none of them empty; got \"\"");
  EXPECT_EQ(read_error("g.jsonl",
                       "{\"anchor\": \"A\", \"positive\": [\"P\", \"N\"]}\n"
                       "{\"anchor\": \"A\", \"positive\": [\"P\"]}"),
            ":2: must have 3 texts as the first row; got 2");
  EXPECT_EQ(read_error("h.jsonl", R"({"sentence1": "A", "sentence2": "B", "score": "high"})"),
            ":1: score must be a finite number; got \"high\"");
  EXPECT_EQ(read_error("i.tsv", "3\tA\tB\n2\tC\n"),
            ":2: must have 3 columns (score, sentence1, sentence2); got 2");
  EXPECT_EQ(read_error("j.jsonl", "\n"), ": holds no rows");
  TextTableOptions options;
  options.fields = {"a", "b"};
  EXPECT_EQ(read_error("k.tsv", "3\tA\tB\n", options),
            ":1: must name its columns in the first line where fields are asked for");
}

TEST(Correlations, FollowTheirDefinitions) {
  const std::vector<double> x = {1, 2, 3, 4, 5};
  const std::vector<double> y = {2, 1, 4, 3, 5};
  EXPECT_NEAR(pearson(x, y), 0.8, 1e-12);
  EXPECT_NEAR(spearman(x, y), 0.8, 1e-12);
  const std::vector<double> cubes = {1, 8, 27, 64, 125};
  EXPECT_NEAR(spearman(x, cubes), 1, 1e-12);
  EXPECT_LT(pearson(x, cubes), 0.95);
  // Ranks of equal values are shared: 1.5, 1.5, 3, 4 against 1, 2, 3.5, 3.5.
  const std::vector<double> tied = {1, 1, 2, 3};
  const std::vector<double> other = {1, 2, 3, 3};
  EXPECT_NEAR(spearman(tied, other), 8.0 / 9, 1e-12);
  const std::vector<double> constant(5, 1.0);
  EXPECT_TRUE(std::isnan(pearson(x, constant))) << "a constant has no correlation";
}

}  // namespace
}  // namespace candela
