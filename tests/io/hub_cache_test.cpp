#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/io/dataset.h>
#include <candela/io/hub_cache.h>
#include <candela/models/config.h>

#include "io/files.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::expect_contains;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

TEST(HubName, PartsAndWhatIsNone) {
  const HubName name = HubName::parse("Qwen/Qwen3-0.6B", HubKind::Model).value();
  EXPECT_EQ(name.id, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(name.revision, "main");
  EXPECT_EQ(name.folder(), "models--Qwen--Qwen3-0.6B");
  EXPECT_EQ(HubName::parse("gpt2", HubKind::Model)->folder(), "models--gpt2");
  const HubName inside = HubName::parse("openai/gsm8k/main/train.csv", HubKind::Dataset).value();
  EXPECT_EQ(inside.folder(), "datasets--openai--gsm8k");
  EXPECT_EQ(inside.inside, "main/train.csv");
  EXPECT_EQ(HubName::parse("o/n@refs/pr/1", HubKind::Model)->revision, "refs/pr/1");
  for (const char* text : {"", "/", "/o/n", "o/", "./n", "../n", "o/..", "o--p/n", "-o/n", "o/n.", "o n/m",
                           "o/n@", "o/n@../x", "o/n/../x", "o\n/x", "o/n@a//b"})
    EXPECT_FALSE(HubName::parse(text, HubKind::Model)) << text;
}

class HubCache : public testing::Test {
 protected:
  void SetUp() override { ::setenv("HF_HOME", folder_.path().c_str(), 1); }
  void TearDown() override { ::unsetenv("HF_HOME"); }

  fs::path add(const std::string& repository, const std::string& file, const std::string& text) const {
    const fs::path at = folder_ / "hub" / repository;
    test::write_text(at / "refs" / "main", std::string(kCommit) + "\n");
    test::write_text(at / "snapshots" / kCommit / file, text);
    return at / "snapshots" / kCommit;
  }

  const test::TemporaryFolder folder_;
};

TEST_F(HubCache, FindsSnapshotsByReferenceAndByCommit) {
  const fs::path snapshot = add("models--org--model", "config.json", "{}");
  EXPECT_EQ(hub_cache(), folder_ / "hub");
  EXPECT_EQ(local_path("org/model"), snapshot);
  EXPECT_EQ(local_path(std::string("org/model@") + kCommit), snapshot);
  EXPECT_EQ(local_path("org/model/config.json"), snapshot / "config.json");
  EXPECT_EQ(local_path(snapshot), snapshot);
  const std::string error = error_of<IoError>([] { local_path("org/model@v2"); });
  expect_contains(error,
                  "models--org--model) does not hold its revision v2; fetch it: `candela pull org/model "
                  "--revision v2`");
}

TEST_F(HubCache, WhatIsNotThereIsToldWithWhereAndHow) {
  expect_contains(error_of<IoError>([] { local_path("org/model"); }),
                  "org/model: no such file or folder, and not in the Hub cache (" +
                      (folder_ / "hub" / "models--org--model").string() +
                      "); check the path, or fetch it from the Hub: `candela pull org/model`");
  expect_contains(error_of<IoError>([] { local_path("org/rows", HubKind::Dataset); }),
                  "`candela pull --dataset org/rows`");
  expect_contains(error_of<IoError>([] { ModelConfig::load("org/model"); }), "`candela pull org/model`");
  // No names of the Hub, or files: told where they are opened.
  for (const char* path : {"none", "/none/such", "out/rows.jsonl", "a/b/c"})
    EXPECT_EQ(local_path(path), fs::path(path));
}

TEST_F(HubCache, AReferenceThatLeadsElsewhereIsRefused) {
  add("models--org--model", "config.json", "{}");
  test::write_text(folder_ / "hub/models--org--model/refs/main", "../../../../etc");
  expect_contains(error_of<IoError>([] { local_path("org/model"); }), "must hold the hash of a commit");
}

TEST_F(HubCache, AFolderThatIsThereWins) {
  add("models--here--model", "config.json", "{}");
  const fs::path before = fs::current_path();
  fs::current_path(folder_.path());
  fs::create_directories("here/model");
  EXPECT_EQ(local_path("here/model"), fs::path("here/model"));
  fs::current_path(before);
}

TEST_F(HubCache, DataSetsAreReadByTheirNames) {
  const fs::path snapshot = add("datasets--org--rows", "data/train.csv", "text\nab\n");
  const std::vector<std::string> sources = {"org/rows:0.5", "org/rows/data"};
  const DatasetFiles files = DatasetFiles::find(sources);
  ASSERT_EQ(files.train.size(), 2U);
  EXPECT_EQ(files.train[0].path, snapshot / "data" / "train.csv");
  EXPECT_EQ(files.train[0].weight, 0.5);
  EXPECT_EQ(files.train[1].weight, 1);
}

}  // namespace
}  // namespace candela
