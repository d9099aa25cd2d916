#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>
#include <candela/ops/tuning.h>

#include "backend/selector.h"

namespace candela {
namespace {

class TuningTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    disable_tuning();
    std::filesystem::remove_all(folder_);
  }
  std::filesystem::path file() const { return folder_ / "tuning.tsv"; }
  std::string content() const {
    std::ifstream in(file());
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& text) const { std::ofstream(file()) << text; }
  /// The file's content, but as a run would have written it in which "slow" was the faster one.
  std::string content_with_slow_chosen() const {
    std::string text = content();
    const std::size_t at = text.find("\tfast\tfast=");
    if (at == std::string::npos) ADD_FAILURE() << "\"fast\" was not chosen: " << text;
    return at == std::string::npos ? text : text.replace(at, 6, "\tslow\t");
  }

 private:
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("candela_tuning_" + std::to_string(std::rand()));
};

/// Two implementations of the same op, the preferred one slow.
KernelList<TopkArgs> slow_and_fast() {
  KernelList<TopkArgs> list{"topk", {}};
  list.add("slow", supports_all,
           [](const TopkArgs&, Stream&) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  list.add("fast", supports_all, [](const TopkArgs&, Stream&) {});
  return list;
}

TopkArgs some_args(std::int64_t k) {
  static const Tensor x = zeros({4, 100});  // the arguments do not keep it alive
  TopkArgs args;
  args.x = TensorArg(x);
  args.k = k;
  return args;
}

TEST_F(TuningTest, TheRuleChoosesWhereTuningIsOff) {
  const KernelList<TopkArgs> list = slow_and_fast();
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "slow");
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(TuningTest, TheFastestIsChosenAndKept) {
  enable_tuning(file());
  const KernelList<TopkArgs> list = slow_and_fast();
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "fast");
  EXPECT_NE(content().find("\tfast\tfast="), std::string::npos) << content();
  EXPECT_NE(content().find("topk f32 rows4 d128 k4"), std::string::npos) << content();
}

TEST_F(TuningTest, WhatWasMeasuredIsNotMeasuredAgain) {
  enable_tuning(file());
  const KernelList<TopkArgs> list = slow_and_fast();
  choose(list, backend(Device::cpu()), some_args(3));
  write(content_with_slow_chosen());
  enable_tuning(file());
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "slow");
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(4))->name, "slow") << "the same bucket";
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(5))->name, "fast") << "another bucket";
}

TEST_F(TuningTest, AnImplementationThatCannotTakeTheArgumentsIsNeverChosen) {
  enable_tuning(file());
  KernelList<TopkArgs> list = slow_and_fast();
  list.kernels[1].supports = [](const TopkArgs& args) -> std::string {
    return args.k > 3 ? "k is at most 3" : "";
  };
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "fast");
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(4))->name, "slow") << "the same bucket as 3";
}

TEST_F(TuningTest, ProductsGiveTheSameNumbers) {
  Generator generator(5);
  const Tensor a = normal({70, 130}, generator);
  const Tensor b = normal({130, 90}, generator);
  const std::vector<double> ruled = cast(matmul(a, b), DType::F64).to_vector<double>();
  enable_tuning(file());
  const std::vector<double> tuned = cast(matmul(a, b), DType::F64).to_vector<double>();
  ASSERT_EQ(ruled.size(), tuned.size());
  for (std::size_t i = 0; i < ruled.size(); ++i) EXPECT_NEAR(ruled[i], tuned[i], 1e-4) << i;
  EXPECT_NE(content().find("matmul f32 to f32 nnn b1 m128 n128 k256"), std::string::npos) << content();
}

TEST_F(TuningTest, WhatAddsToItsResultIsNotMeasured) {
  MatmulArgs args{TensorArg(zeros({3, 4})), TensorArg(zeros({4, 5})), TensorArg(zeros({3, 5})), {}, 1, 0};
  EXPECT_NE(tuning_key(args), "");
  args.beta = 1;
  EXPECT_EQ(tuning_key(args), "");
}

TEST_F(TuningTest, AFileOfAnotherKindIsRefusedAndKept) {
  write("not a tuning file\n");
  EXPECT_THROW(enable_tuning(file()), IoError);
  EXPECT_EQ(content(), "not a tuning file\n");
  const std::string title = "# candela tuning 1: device, key, implementation, measured nanoseconds\n";
  for (const std::string line :
       {"cpu\tkey", "cpu\tkey\tfast\tfast", "cpu\tkey\tfast\tfast=-1", "cpu\tkey\tfast\tfast=nan",
        "cpu\tkey\tfast\tslow=1", "\tkey\tfast\tfast=1", ""}) {
    write(title + line + "\n");
    EXPECT_THROW(enable_tuning(file()), IoError) << line;
  }
}

/// A pipe would be waited for, and a device never end.
TEST_F(TuningTest, OnlyARegularFileOfSomeSizeIsRead) {
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  EXPECT_THROW(enable_tuning(file()), IoError);
  std::filesystem::remove(file());
  std::filesystem::create_symlink("/dev/zero", file());
  EXPECT_THROW(enable_tuning(file()), IoError);
  std::filesystem::remove(file());
  write("");
  std::filesystem::resize_file(file(), std::uintmax_t{3} << 30U);
  EXPECT_THROW(enable_tuning(file()), IoError);
}

TEST_F(TuningTest, AFileThatCannotBeWrittenIsRefusedAtOnce) {
  write("");
  EXPECT_THROW(enable_tuning(file() / "inside"), IoError);
  EXPECT_FALSE(Tuning::instance().enabled());
}

/// Ops go on, and say so once.
TEST_F(TuningTest, AFileThatCannotBeWrittenLaterIsAWarning) {
  enable_tuning(file());
  std::filesystem::create_directory(file());
  const KernelList<TopkArgs> list = slow_and_fast();
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "fast");
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(9))->name, "fast");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find(file().string()), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

/// A folder that leads to itself can be looked into by nobody, root included.
TEST_F(TuningTest, AFolderThatCannotBeLookedIntoIsAnErrorAtFirstAndAWarningLater) {
  const std::filesystem::path folder = file().parent_path() / "cache";
  enable_tuning(folder / "tuning.tsv");
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory_symlink(folder, folder);
  const KernelList<TopkArgs> list = slow_and_fast();
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "fast");
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(9))->name, "fast");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find((folder / "tuning.tsv").string() + ": cannot be read: "), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THROW(enable_tuning(folder / "tuning.tsv"), IoError);
}

/// As on a read-only image. The name leaves no room for that of a file beside it, which stops root as well.
TEST_F(TuningTest, AFileThatCanBeReadButNotWrittenIsUsed) {
  const std::filesystem::path read_only = file().parent_path() / std::string(250, 'x');
  EXPECT_THROW(enable_tuning(read_only), IoError) << "there is none and none can be made";
  EXPECT_FALSE(Tuning::instance().enabled());
  enable_tuning(file());
  const KernelList<TopkArgs> list = slow_and_fast();
  choose(list, backend(Device::cpu()), some_args(3));
  std::ofstream(read_only) << content_with_slow_chosen();
  testing::internal::CaptureStderr();
  enable_tuning(read_only);
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3))->name, "slow") << "as the file says";
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(9))->name, "fast") << "measured";
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find(read_only.string()), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

TEST_F(TuningTest, WhatAnotherProcessKeptStays) {
  enable_tuning(file());
  const KernelList<TopkArgs> list = slow_and_fast();
  choose(list, backend(Device::cpu()), some_args(3));
  write(content() + "other\tkey\tfast\tfast=1\n");
  choose(list, backend(Device::cpu()), some_args(9));
  EXPECT_NE(content().find("other\tkey\tfast\tfast=1"), std::string::npos) << content();
  EXPECT_NE(content().find("topk f32 rows4 d128 k4"), std::string::npos) << content();
  EXPECT_NE(content().find("topk f32 rows4 d128 k16"), std::string::npos) << content();
}

TEST_F(TuningTest, TheCpuIsKnownByModelThreadsAndInstructionSet) {
  const std::string cpu = device_interface(Device::cpu()).description();
  const std::string threads = fmt::format(", {} threads, ", thread_count());
  const std::size_t at = cpu.find(threads);
  ASSERT_NE(at, std::string::npos) << cpu;
  EXPECT_GT(at, 0U) << cpu;
  EXPECT_GT(cpu.size(), at + threads.size()) << cpu;
}

TEST_F(TuningTest, TheFolderComesFromTheEnvironment) {
  ::setenv("CANDELA_CACHE", "/somewhere", 1);
  EXPECT_EQ(default_tuning_file(), "/somewhere/tuning.tsv");
  ::unsetenv("CANDELA_CACHE");
}

}  // namespace
}  // namespace candela
