#include "cli/output.h"

#include <csignal>
#include <gtest/gtest.h>

#include "cli/signals.h"

namespace candela {
namespace {

using cli::printable;

/// Errors quote names from files, and a terminal obeys control characters.
TEST(Output, ControlCharactersAreWrittenOut) {
  EXPECT_EQ(printable("a\tb\nµ"), "a\tb\nµ");
  EXPECT_EQ(printable("\x1b[31mred\r\x7f"), "\\x1b[31mred\\x0d\\x7f");
}

TEST(Output, AVeryLongTextIsCutBetweenCharacters) {
  EXPECT_EQ(printable(std::string(8192, 'a')), std::string(8192, 'a'));
  EXPECT_EQ(printable(std::string(8191, 'a') + "µb"), std::string(8191, 'a') + "... and 3 more bytes");
}

TEST(SignalsDeathTest, AMappedFileThatBecomesShorterIsAnError) {
  const auto meet_a_page_that_is_gone = [] {
    cli::prepare_process();
    std::raise(SIGBUS);
  };
  EXPECT_EXIT(meet_a_page_that_is_gone(), testing::ExitedWithCode(1), "candela: error: .*became shorter");
}

}  // namespace
}  // namespace candela
