#include <atomic>
#include <csignal>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>

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

/// What is left over of a process that was killed is removed; what a living one writes is not.
TEST(AtomicFile, RemovesWhatAKilledProcessLeft) {
  const test::TemporaryFolder folder;
  const auto files = [&] { return std::distance(std::filesystem::directory_iterator(folder.path()), {}); };
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(folder / "a");
    file.write("half");
    ::raise(SIGKILL);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ASSERT_EQ(files(), 1);
  AtomicFile first(folder / "a");
  EXPECT_EQ(files(), 1);
  first.write("first");
  AtomicFile second(folder / "a");
  EXPECT_EQ(files(), 2);
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(test::read_text(folder / "a"), "first");
  EXPECT_EQ(files(), 1);
}

TEST(AtomicFile, FlushedFilesAreCommittedLater) {
  const test::TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.write("text");
  file.flush();
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  file.commit();
  EXPECT_EQ(test::read_text(folder / "a"), "text");
  EXPECT_THROW(file.flush(), IoError);
}

TEST(AtomicFile, CopiesHaveThePermissionsOfANewFile) {
  const test::TemporaryFolder folder;
  const std::string text(3000000, 'x');
  write_file_atomically(folder / "from", text);
  ASSERT_EQ(::chmod((folder / "from").c_str(), 0400), 0);
  copy_file_atomically(folder / "from", folder / "to");
  EXPECT_EQ(test::read_text(folder / "to"), text);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "to").c_str(), &status), 0);
  EXPECT_NE(status.st_mode & 0200U, 0U);
  expect_contains(error_of<IoError>([&] { copy_file_atomically(folder / "none", folder / "x"); }), "none");
}

TEST(AtomicFile, APrivateFileStaysPrivate) {
  const test::TemporaryFolder folder;
  const auto mode = [&](const char* name) {
    struct stat status {};
    EXPECT_EQ(::stat((folder / name).c_str(), &status), 0);
    return status.st_mode & 0777U;
  };
  write_file_atomically(folder / "a", "secret");
  ASSERT_EQ(::chmod((folder / "a").c_str(), 0600), 0);
  copy_file_atomically(folder / "a", folder / "copy");
  EXPECT_EQ(mode("copy"), 0600U);
  write_file_atomically(folder / "a", "changed");
  EXPECT_EQ(mode("a"), 0600U);
}

/// Opened for writing, a pipe that nobody reads would be waited for.
TEST(AtomicFile, APipeWithTheNameOfALeftOverFileIsLeftAlone) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / ".a.1-0.tmp").c_str(), 0600), 0);
  write_file_atomically(folder / "a", "text");
  EXPECT_EQ(test::read_text(folder / "a"), "text");
  EXPECT_TRUE(std::filesystem::is_fifo(folder / ".a.1-0.tmp"));
}

TEST(AtomicFile, FolderThatCannotBeWritten) {
  const test::TemporaryFolder folder;
  write_file_atomically(folder / "file", "x");
  expect_contains(error_of<IoError>([&] { AtomicFile(folder / "file/inside"); }), "inside");
  expect_contains(error_of<IoError>([&] { AtomicFile("/proc/nowhere/x"); }), "/proc/nowhere/x");
}

/// A rename would put a file in the place of whatever is there.
TEST(AtomicFile, WhatIsNoRegularFileStays) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "folder");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", folder / "link");
  std::filesystem::create_symlink("/dev/null", folder / "device");
  for (const char* name : {"folder", "pipe", "link", "device"}) {
    const std::string expected = "must be a regular file or not exist; choose another file to write";
    expect_contains(error_of<IoError>([&] { AtomicFile(folder / name); }), expected);
    expect_contains(error_of<IoError>([&] { check_replaceable(folder / name); }), expected);
  }
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 4);
  write_file_atomically(folder / "file", "x");
  EXPECT_NO_THROW(check_replaceable(folder / "file"));
  EXPECT_NO_THROW(check_replaceable(folder / "none"));
}

/// Each looks for what others have left over while the rest create theirs.
TEST(AtomicFile, WritersAtOnceLeaveEachOtherAlone) {
  const test::TemporaryFolder folder;
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        try {
          write_file_atomically(folder / "a", "text");
        } catch (const IoError&) {
          ++failed;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed.load(), 0);
}

}  // namespace
}  // namespace candela
