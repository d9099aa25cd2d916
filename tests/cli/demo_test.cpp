#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;

/// scripts/demo.sh with a program in candela's place that only says how well it did.
class Demo : public Cli {
 protected:
  int demo(const std::string& evaluation) const {
    write("candela", fmt::format("#!/bin/sh\necho \"$1\" >>'{}'\n[ \"$1\" != eval ] || echo '{}'\n",
                                 path("calls"), evaluation));
    std::filesystem::remove(folder_ / "calls");
    std::filesystem::permissions(folder_ / "candela", std::filesystem::perms::owner_all);
    const std::string line = fmt::format("'{}' '{}' '{}' >'{}' 2>'{}'", CANDELA_SOURCE_DIR "/scripts/demo.sh",
                                         path("candela"), path("output"), path("out"), path("err"));
    const int code = std::system(line.c_str());
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
  }
};

constexpr const char* kBase =
    "base             loss 8.5452  perplexity 5141.96  exact match 0.0 % (0 of 300)\n";
constexpr const char* kTuned = "base + adapter   loss 0.1002  perplexity 1.11";

TEST_F(Demo, FailsWhereTheModelDidNotLearn) {
  EXPECT_EQ(demo(fmt::format("{}{}  exact match 74.7 % (224 of 300)", kBase, kTuned)), 1);
  EXPECT_NE(read(path("err")).find("expected at least 75 % exact match; got 224 of 300"), std::string::npos)
      << read(path("err"));
  EXPECT_EQ(demo(std::string(kBase) + kTuned), 1);
  EXPECT_NE(read(path("err")).find("got no line"), std::string::npos) << read(path("err"));
}

/// What it shows is what it judges: the rows are evaluated once.
TEST_F(Demo, SucceedsWhereItDid) {
  for (const char* match : {"75.0 % (225 of 300)", "100.0 % (300 of 300)"}) {
    const std::string evaluation = fmt::format("{}{}  exact match {}", kBase, kTuned, match);
    EXPECT_EQ(demo(evaluation), 0) << read(path("err"));
    EXPECT_NE(read(path("out")).find(evaluation), std::string::npos) << read(path("out"));
    EXPECT_EQ(read(path("calls")), "finetune\neval\n");
  }
}

}  // namespace
}  // namespace candela
