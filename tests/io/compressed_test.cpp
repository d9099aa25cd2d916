#include <gtest/gtest.h>

#include <candela/core/error.h>

#include "io/byte_cursor.h"
#include "io/byte_source.h"
#include "io/files.h"

namespace candela::io {
namespace {

using test::error_of;
using test::expect_contains;

std::string all_of(ByteSource& source) {
  std::string text;
  for (std::string_view piece = source.next(); !piece.empty(); piece = source.next()) text += piece;
  return text;
}

constexpr const char* kRows =
    "{\"text\": \"first row\"}\n{\"text\": \"second row\"}\n{\"text\": \"third row\"}\n";

class Compressed : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    try {
      static_cast<void>(open_bytes(file()));
    } catch (const Unsupported& error) {
      GTEST_SKIP() << error.what();
    }
  }
  std::filesystem::path file() const { return test::fixture(std::string("rows.jsonl") + GetParam()); }

  const test::TemporaryFolder folder_;
};

TEST_P(Compressed, FilesAreReadAsTheirContent) {
  EXPECT_EQ(all_of(*open_bytes(file())), kRows);
}

TEST_P(Compressed, ContentTellsWhateverTheName) {
  test::write_text(folder_ / "rows", test::read_text(file()));
  EXPECT_EQ(all_of(*open_bytes(folder_ / "rows")), kRows);
  test::write_text(folder_ / (std::string("plain") + GetParam()), kRows);
  expect_contains(error_of<IoError>([&] { open_bytes(folder_ / (std::string("plain") + GetParam())); }),
                  "must be compressed as its name says; its first bytes are not");
}

/// One archive behind the other is one text, as of `cat a.gz b.gz`.
TEST_P(Compressed, SeveralInOneFileAreOneText) {
  const std::string bytes = test::read_text(file());
  test::write_text(folder_ / "two", bytes + bytes);
  EXPECT_EQ(all_of(*open_bytes(folder_ / "two")), std::string(kRows) + kRows);
}

TEST_P(Compressed, CutShortAnywhereIsAnErrorThatNamesTheFile) {
  const std::string bytes = test::read_text(file());
  // What is left must still be recognised by its first bytes.
  for (std::size_t size = 8; size < bytes.size(); ++size) {
    test::write_text(folder_ / "cut", bytes.substr(0, size));
    const std::string error = error_of<IoError>([&] { all_of(*open_bytes(folder_ / "cut")); });
    expect_contains(error, "cut: must be a whole compressed file; after ");
  }
}

TEST_P(Compressed, DamageIsAnErrorOrLeavesTheText) {
  const std::string bytes = test::read_text(file());
  for (std::size_t at = 6; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    test::write_text(folder_ / "damaged", damaged);
    try {
      EXPECT_LE(all_of(*open_bytes(folder_ / "damaged")).size(), 4096U) << at;
    } catch (const IoError& error) {
      expect_contains(error.what(), "damaged");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Each, Compressed, testing::Values(".gz", ".xz", ".zst"),
                         [](const auto& one) { return std::string(one.param).substr(1); });

/// Larger than a piece of what is mapped: lines that reach over the border are whole.
TEST(ByteCursor, LinesReachOverPieces) {
  const test::TemporaryFolder folder;
  std::string text = "\xef\xbb\xbf";
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; text.size() < (std::size_t{33} << 20); ++i) {
    lengths.push_back(i * 7919 % 100000);
    text.append(lengths.back(), static_cast<char>('a' + i % 26));
    text += '\n';
  }
  test::write_text(folder / "large", text);
  const auto source = open_bytes(folder / "large");
  ByteCursor cursor(*source, "large");
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_EQ(cursor.line_number(), i + 1);
    const std::optional<std::string_view> line = cursor.line();
    ASSERT_TRUE(line.has_value());
    EXPECT_EQ(*line, std::string(lengths[i], static_cast<char>('a' + i % 26))) << i;
  }
  EXPECT_FALSE(cursor.line().has_value());
}

TEST(Decompressed, MayNotGrowWithoutBound) {
  try {
    const auto source = open_bytes(test::fixture("growing.jsonl.zst"));
    std::size_t size = 0;
    const std::string error = error_of<IoError>([&] {
      for (std::string_view piece = source->next(); !piece.empty(); piece = source->next())
        size += piece.size();
    });
    expect_contains(error, "must not grow to more than 1000 times its ");
    EXPECT_LT(size, std::size_t{72} << 20) << "of 80 MiB";
  } catch (const Unsupported& error) {
    GTEST_SKIP() << error.what();
  }
}

}  // namespace
}  // namespace candela::io
