#include <algorithm>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

/// What is there before a run, or was made by others, stays unless the user says otherwise.
namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

class Safety : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl");
    model_ = write_tiny_model("model");
  }
  Outcome tune(const std::string& more, const std::string& before = "") const {
    return run(finetune(fmt::format("--output '{}' --max-steps 2 {}", path("adapter"), more), model_),
               before);
  }
  unsigned mode(const std::string& name) const {
    struct stat status {};
    EXPECT_EQ(::stat(path(name).c_str(), &status), 0) << name;
    return status.st_mode & 0777U;
  }
  std::string model_;
};

TEST_F(Safety, FilesThatARunWouldReplaceAreFoundFirst) {
  for (const std::string name : {"finetune.yaml", "loss.svg", "metrics.jsonl", "adapter_config.json"}) {
    const std::string file = "adapter/" + name;
    write(file, "# mine\n");
    const Outcome refused = tune("");
    EXPECT_EQ(refused.status, 1);
    EXPECT_TRUE(refused.says(name + ": exists already; choose another --output, or give --overwrite"))
        << refused.err;
    EXPECT_EQ(refused.out, "") << "nothing was planned yet";
    EXPECT_EQ(read(path(file)), "# mine\n");
    fs::remove_all(path("adapter"));
  }
  write("adapter/metrics.jsonl.partial", "a person's notes");
  EXPECT_EQ(tune("--overwrite").status, 1);
  EXPECT_EQ(read(path("adapter/metrics.jsonl.partial")), "a person's notes");
}

/// A link is followed by nothing that writes, a pipe is waited for by nothing.
TEST_F(Safety, LinksAndPipesInThePlaceOfOutputsAreRefused) {
  write("precious", "mine");
  for (const std::string name : {"finetune.yaml", "loss.svg", "metrics.jsonl", "metrics.jsonl.partial",
                                 "adapter_config.json", "adapter_model.safetensors"}) {
    for (const bool link : {true, false}) {
      fs::create_directories(path("adapter"));
      link ? fs::create_symlink(path("precious"), path("adapter/" + name))
           : static_cast<void>(::mkfifo(path("adapter/" + name).c_str(), 0600));
      const Outcome refused = tune("--overwrite", "timeout 20");
      EXPECT_EQ(refused.status, 1) << name << refused.err;
      EXPECT_TRUE(refused.says(name + ": must be a regular file or not exist, and no link")) << refused.err;
      fs::remove_all(path("adapter"));
    }
  }
  EXPECT_EQ(read(path("precious")), "mine");
  // Nor is one with the name of a file that a killed run left aside.
  fs::create_directories(path("adapter"));
  ASSERT_EQ(::mkfifo(path("adapter/.adapter_model.safetensors.1-0.tmp").c_str(), 0600), 0);
  EXPECT_EQ(tune("", "timeout 60").status, 0);
}

TEST_F(Safety, AReplacedFileKeepsItsPermissions) {
  ASSERT_EQ(tune("").status, 0);
  ASSERT_EQ(::chmod(path("adapter/finetune.yaml").c_str(), 0600), 0);
  ASSERT_EQ(tune("--overwrite").status, 0);
  EXPECT_EQ(mode("adapter/finetune.yaml"), 0600U);
}

/// Its name alone does not make a folder a run's.
TEST_F(Safety, OthersCheckpointsStay) {
  ASSERT_EQ(tune("--save-every 1").status, 0);
  write("adapter/checkpoint-500/adapter_model.safetensors", "of another program");
  const Outcome result = tune("--overwrite");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("checkpoint-500: is no checkpoint of a run; it stays")) << result.err;
  EXPECT_FALSE(exists("adapter/checkpoint-2"));
  EXPECT_EQ(read(path("adapter/checkpoint-500/adapter_model.safetensors")), "of another program");
  const Outcome refused = tune("--overwrite --save-every 250");
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("checkpoint-500: is no checkpoint of a run, and has the name of one"))
      << refused.err;
}

TEST_F(Safety, OneRunAtATimeInAFolder) {
  fs::create_directories(path("adapter"));
  const std::string lock = path("adapter/.finetune.lock");
  const int held = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  ASSERT_GE(held, 0);
  ASSERT_EQ(::write(held, "4711\n", 5), 5);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  const Outcome refused = tune("");
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("another run (process 4711) is writing into this folder")) << refused.err;
  EXPECT_FALSE(exists("adapter/adapter_model.safetensors"));
  ::close(held);  // as when that process is killed: its file stays, the lock does not
  EXPECT_EQ(tune("").status, 0);
  EXPECT_FALSE(fs::exists(lock));
}

/// The folder was empty when the second run looked at it, and the first run's by the time it had read its
/// data.
TEST_F(Safety, AFolderThatAnotherRunFilledMeanwhileIsRefused) {
  write_rows("many.jsonl", 60'000);
  const auto command = [&](const char* rows, int alpha) {
    return finetune(
        fmt::format("--output '{}' --data '{}' --max-steps 1 --alpha {}", path("adapter"), path(rows), alpha),
        model_);
  };
  const std::string first = fmt::format("'{}' {} >/dev/null 2>&1", CANDELA_BINARY, command("rows.jsonl", 7));
  const Outcome second =
      run(command("many.jsonl", 9), "", fmt::format("& pid=$!; sleep 0.1; {}; wait $pid", first));
  EXPECT_EQ(second.status, 1) << second.out;
  EXPECT_TRUE(second.says("exists already") || second.says("another run (process")) << second.err;
  EXPECT_EQ(read_json("adapter/adapter_config.json")["lora_alpha"], 7);
}

class MergeSafety : public Safety {
 protected:
  void SetUp() override {
    Safety::SetUp();
    ASSERT_EQ(tune("").status, 0);
  }
  Outcome merge(const std::string& before = "") const {
    return run(fmt::format("merge --model '{}' --adapter '{}' --output '{}'", model_, path("adapter"),
                           path("merged")),
               before);
  }
};

TEST_F(MergeSafety, WhatLinksLeadToIsNotPassedOn) {
  write("secret", "mine");
  fs::create_symlink(path("secret"), model_ + "/notes.txt");
  const Outcome refused = merge();
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("notes.txt: must not lead out of the model's folder")) << refused.err;
  EXPECT_FALSE(exists("merged"));
  fs::remove(model_ + "/notes.txt");
  // Within the folder, and as Hugging Face's cache keeps a model's files.
  write("models--org--name/blobs/0a1b", "cached");
  fs::create_symlink(path("models--org--name/blobs/0a1b"), model_ + "/cached.txt");
  write("model/private.txt", "mine");
  ASSERT_EQ(::chmod((model_ + "/private.txt").c_str(), 0600), 0);
  fs::create_symlink("private.txt", model_ + "/same.txt");
  ASSERT_EQ(merge("umask 022;").status, 0);
  EXPECT_EQ(read(path("merged/cached.txt")), "cached");
  EXPECT_EQ(mode("merged/private.txt"), 0600U);
  EXPECT_EQ(mode("merged/same.txt"), 0600U);
}

TEST_F(MergeSafety, AFolderThatHoldsSomethingIsRefusedAndWhatAKilledMergeLeftGoes) {
  write("merged/mine.txt", "mine");
  const Outcome refused = merge();
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("merged: must be empty or not exist; it holds mine.txt")) << refused.err;
  fs::remove_all(path("merged"));
  write(".merged.1-0.tmp/config.json", "half");
  ASSERT_EQ(merge().status, 0);
  EXPECT_FALSE(exists(".merged.1-0.tmp"));
}

/// What a file says of itself reaches no terminal as commands to it.
TEST_F(MergeSafety, NamesFromFilesAreWrittenOut) {
  const auto named = [](const std::string& name) {
    return std::pair(name, Tensor::from_values<float>({1}, {1}));
  };
  write_safetensors(path("odd.safetensors"), {named("a\x1b[2J\nb"), named("c\u202Ed")});
  const Outcome result = run(fmt::format("info '{}' --tensors", path("odd.safetensors")));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("a\\x1b[2J\\x0ab")) << result.out;
  EXPECT_TRUE(result.says("c\\u{202e}d")) << result.out;
}

}  // namespace
}  // namespace candela
