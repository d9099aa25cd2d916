#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;

/// scripts/demo.sh with a program in candela's place that only says how well it did.
class Demo : public Cli {
 protected:
  int demo(const std::string& evaluation) const {
    write("candela", "#!/bin/sh\ncase \"$*\" in *--json*) echo '" + evaluation + "' ;; esac\n");
    std::filesystem::permissions(folder_ / "candela", std::filesystem::perms::owner_all);
    const std::string line = fmt::format("'{}' '{}' '{}' >'{}' 2>'{}'", CANDELA_SOURCE_DIR "/scripts/demo.sh",
                                         path("candela"), path("output"), path("out"), path("err"));
    const int code = std::system(line.c_str());
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
  }
};

TEST_F(Demo, FailsWhereTheModelDidNotLearn) {
  EXPECT_EQ(demo(R"({"exact_match": 0.7466})"), 1);
  EXPECT_NE(read(path("err")).find("expected at least 75 % exact match; got 74.7 %"), std::string::npos)
      << read(path("err"));
  EXPECT_EQ(demo(R"({"loss": 1})"), 1);
  EXPECT_NE(read(path("err")).find("got no exact_match"), std::string::npos) << read(path("err"));
}

TEST_F(Demo, SucceedsWhereItDid) {
  EXPECT_EQ(demo(R"({"exact_match": 0.75})"), 0) << read(path("err"));
  EXPECT_EQ(demo(R"({"exact_match": 1.0})"), 0) << read(path("err"));
}

}  // namespace
}  // namespace candela
