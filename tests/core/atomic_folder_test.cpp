#include <csignal>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/atomic_folder.h>
#include <candela/core/error.h>

#include "io/files.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::expect_contains;

std::ptrdiff_t entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), {});
}

TEST(AtomicFolder, AppearsOnCommitOnly) {
  const test::TemporaryFolder scratch;
  const fs::path target = scratch / "new/deep/folder";
  {
    AtomicFolder folder(target);
    write_file_atomically(folder.path() / "a", "1");
    write_file_atomically(folder.path() / "b", "2");
    EXPECT_FALSE(fs::exists(target));
    folder.commit();
    EXPECT_THROW(folder.commit(), IoError);
  }
  EXPECT_EQ(test::read_text(target / "b"), "2");
  EXPECT_EQ(entries(scratch / "new/deep"), 1);
}

TEST(AtomicFolder, WithoutCommitNothingIsLeft) {
  const test::TemporaryFolder scratch;
  {
    const AtomicFolder folder(scratch / "new/folder/");
    write_file_atomically(folder.path() / "a", "1");
  }
  EXPECT_EQ(entries(scratch.path()), 0);
}

TEST(AtomicFolder, TakesTheNameOfAnEmptyFolderOnly) {
  const test::TemporaryFolder scratch;
  fs::create_directory(scratch / "empty");
  write_file_atomically(scratch / "full/file", "mine");
  write_file_atomically(scratch / "file", "mine");
  for (const char* name : {"empty", "full", "file"}) {
    AtomicFolder folder(scratch / name);
    write_file_atomically(folder.path() / "a", "1");
    if (std::string(name) == "empty") {
      folder.commit();
    } else {
      expect_contains(error_of<IoError>([&] { folder.commit(); }), "must be absent or an empty folder");
    }
  }
  EXPECT_EQ(test::read_text(scratch / "empty/a"), "1");
  EXPECT_EQ(test::read_text(scratch / "full/file"), "mine");
  EXPECT_EQ(test::read_text(scratch / "file"), "mine");
  EXPECT_EQ(entries(scratch.path()), 3);
}

TEST(AtomicFolder, ReplacesAFolderWhole) {
  const test::TemporaryFolder scratch;
  write_file_atomically(scratch / "target/old/file", "old");
  {
    AtomicFolder folder(scratch / "target");
    write_file_atomically(folder.path() / "new", "new");
    folder.replace();
  }
  EXPECT_EQ(entries(scratch / "target"), 1);
  EXPECT_EQ(test::read_text(scratch / "target/new"), "new");
  EXPECT_EQ(entries(scratch.path()), 1);
  EXPECT_EQ(remove_folder_whole(scratch / "target"), "");
  EXPECT_EQ(remove_folder_whole(scratch / "target"), "");
  EXPECT_EQ(entries(scratch.path()), 0);
}

/// What a killed process left goes with the next one; what a living one writes, and what others called so,
/// stays.
TEST(AtomicFolder, RemovesWhatAKilledProcessLeft) {
  const test::TemporaryFolder scratch;
  write_file_atomically(scratch / ".a.notes.tmp/file", "mine");
  const pid_t child = ::fork();
  if (child == 0) {
    const AtomicFolder folder(scratch / "a");
    write_file_atomically(folder.path() / "file", "half");
    ::raise(SIGKILL);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ASSERT_EQ(entries(scratch.path()), 2);
  AtomicFolder first(scratch / "a");
  EXPECT_EQ(entries(scratch.path()), 2);
  const AtomicFolder second(scratch / "a");
  EXPECT_EQ(entries(scratch.path()), 3);
  first.commit();
  EXPECT_TRUE(fs::is_directory(scratch / "a"));
  EXPECT_EQ(test::read_text(scratch / ".a.notes.tmp/file"), "mine");
}

}  // namespace
}  // namespace candela
