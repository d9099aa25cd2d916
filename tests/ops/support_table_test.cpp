#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <string>
#include <vector>

#include "cases/support.h"

namespace candela::cases {
namespace {

SupportTable small_table() {
  SupportTable table;
  table.preface = "# Title\n\nWhat the words mean.\n\n";
  table.columns = {"cpu forward", "cpu backward"};
  table.rows = {{"softmax", "softmax", {{"cpu forward", "highway"}, {"cpu backward", "plain ops"}}}};
  return table;
}

TEST(SupportTable, ReadsBackWhatItWrote) {
  const SupportTable table = small_table();
  EXPECT_EQ(to_markdown(parse_support(to_markdown(table))), to_markdown(table));
  EXPECT_EQ(differences(table, parse_support(to_markdown(table))), "");
}

TEST(SupportTable, StaleCellsRowsAndTextAreFound) {
  const SupportTable table = small_table();
  SupportTable stale = table;
  stale.rows[0].cells["cpu forward"] = "loops";
  EXPECT_EQ(differences(table, stale), "softmax, cpu forward: the table says \"loops\", found \"highway\"\n");
  stale = table;
  stale.rows.push_back({"softmax", "softmin", {}});
  EXPECT_EQ(differences(table, stale), "softmin: the table has it, the case lists do not\n");
  stale = table;
  stale.rows.clear();
  EXPECT_EQ(differences(table, stale), "softmax: the case lists have it, the table does not\n");
  stale = table;
  stale.preface = "# Title\n\nOther words.\n\n";
  EXPECT_EQ(differences(table, stale), "the text above the table must read:\n" + table.preface);
}

/// Each build brings its own devices: the columns of others stay as they were.
TEST(SupportTable, ColumnsOfOtherBuildsAreKept) {
  SupportTable other = small_table();
  other.columns = {"metal forward"};
  other.rows[0].cells = {{"metal forward", "mps"}};
  const SupportTable merged = merge_support(small_table(), other);
  EXPECT_EQ(merged.columns, (std::vector<std::string>{"cpu forward", "cpu backward", "metal forward"}));
  EXPECT_EQ(merged.rows[0].cells.at("metal forward"), "mps");
  EXPECT_EQ(differences(small_table(), merged), "");
}

/// A Mac finds columns that the table, written on Linux, lacks; what they share is compared all the same.
TEST(SupportTable, ColumnsThatTheTableLacksAreLeftOut) {
  SupportTable own = small_table();
  own.columns.emplace_back("metal forward");
  own.rows[0].cells["metal forward"] = "mps";
  EXPECT_EQ(differences(own, small_table()), "");
  SupportTable stale = small_table();
  stale.rows[0].cells["cpu backward"] = "throws";
  EXPECT_EQ(differences(own, stale),
            "softmax, cpu backward: the table says \"throws\", found \"plain ops\"\n");
}

/// What the check rests on: the table that is committed has the columns of the builds that check it.
TEST(SupportTable, TheCommittedTableHasTheColumnsOfLinux) {
  std::ifstream file(CANDELA_SOURCE_DIR "/docs/support.md", std::ios::binary);
  ASSERT_TRUE(file.is_open());
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(parse_support(text).columns,
            (std::vector<std::string>{"cpu forward", "cpu backward", "metal (emulated) forward",
                                      "metal (emulated) backward"}));
}

}  // namespace
}  // namespace candela::cases
