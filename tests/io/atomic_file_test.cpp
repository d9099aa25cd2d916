#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/io/atomic_file.h>

#include "io/files.h"

namespace candela {
namespace {

using test::error_of;
using test::expect_contains;

TEST(AtomicFile, AppearsOnCommitOnly) {
  const test::TemporaryFolder folder;
  const auto path = folder / "new/deep/file.txt";
  {
    AtomicFile file(path);
    file.write("half");
    EXPECT_FALSE(std::filesystem::exists(path));
    file.write(" and half");
    file.commit();
    EXPECT_EQ(test::read_text(path), "half and half");
    EXPECT_THROW(file.write("more"), IoError);
    EXPECT_THROW(file.commit(), IoError);
  }
  EXPECT_EQ(test::read_text(path), "half and half");
}

TEST(AtomicFile, WithoutCommitNothingChanges) {
  const test::TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
  }
  EXPECT_EQ(test::read_text(folder / "a"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicFile, KeepsASymbolicLink) {
  const test::TemporaryFolder folder;
  write_file_atomically(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  write_file_atomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(test::read_text(folder / "target"), "new");
}

TEST(AtomicFile, FolderThatCannotBeWritten) {
  const test::TemporaryFolder folder;
  write_file_atomically(folder / "file", "x");
  expect_contains(error_of<IoError>([&] { AtomicFile(folder / "file/inside"); }), "inside");
  expect_contains(error_of<IoError>([&] { AtomicFile("/proc/nowhere/x"); }), "/proc/nowhere/x");
  std::filesystem::create_directory(folder / "taken");
  const std::string error = error_of<IoError>([&] { write_file_atomically(folder / "taken", "x"); });
  expect_contains(error, "taken: could not be put in place");
}

}  // namespace
}  // namespace candela
