#include "cli/progress.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <regex>

namespace candela {
namespace {

using cli::Progress;
using std::chrono::hours;
using std::chrono::milliseconds;

/// What `run` writes to standard error, which is a file meanwhile: a line for each drawing.
template <class Run>
std::string said_by(const Run& run) {
  testing::internal::CaptureStderr();
  run();
  return testing::internal::GetCapturedStderr();
}

TEST(ProgressTest, TellsTheNoteAndTheTimeLeftAndInTheEndTheTimeTaken) {
  const std::string said = said_by([] {
    Progress progress("training", 4, "steps", false, milliseconds(0));
    progress.update(1, "loss 2.5000");
    progress.update(4, "loss 1.5000");
  });
  const std::regex lines(
      "training #{6}-{18} 1/4 steps  loss 2\\.5000  ETA [0-9:]+\n"
      "(training #{24} 4/4 steps  loss 1\\.5000  in [0-9:]+\n){2}");
  // The marks are of three bytes each, which a quantifier does not take for one.
  const auto spelt = [](std::string text) {
    for (const auto& [mark, letter] : {std::pair("█", "#"), std::pair("░", "-")}) {
      for (std::size_t at = 0; (at = text.find(mark)) != std::string::npos;) text.replace(at, 3, letter);
    }
    return text;
  };
  EXPECT_TRUE(std::regex_match(spelt(said), lines)) << said;
}

TEST(ProgressTest, DrawsNothingWithinThePauseButTheEnd) {
  const std::string said = said_by([] {
    Progress progress("training", 1000, "steps", false, hours(1));
    for (int i = 1; i <= 999; ++i) progress.update(i);
    progress.say("step 999: saved");
    progress.finish();
    progress.finish();
  });
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
  EXPECT_EQ(said.rfind("step 999: saved\ntraining ", 0), 0U) << said;
  EXPECT_NE(said.find(" 999/1000 steps  in "), std::string::npos) << said;
}

TEST(ProgressTest, QuietIsQuiet) {
  EXPECT_EQ(said_by([] {
              Progress progress("training", 4, "steps", true, milliseconds(0));
              progress.update(1);
              progress.say("step 1: saved");
            }),
            "");
}

}  // namespace
}  // namespace candela
