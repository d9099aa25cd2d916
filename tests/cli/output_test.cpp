#include "cli/output.h"

#include <csignal>
#include <gtest/gtest.h>
#include <iterator>
#include <random>

#include "cli/signals.h"

namespace candela {
namespace {

using cli::printable;

/// Errors quote names from files, and a terminal obeys control characters.
TEST(Output, ControlCharactersAreWrittenOut) {
  EXPECT_EQ(printable("a\tb\nµ"), "a\tb\nµ");
  EXPECT_EQ(printable("\x1b[31mred\r\x7f"), "\\x1b[31mred\\x0d\\x7f");
}

/// What a terminal obeys or shows out of order, beyond ASCII: C1 controls, raw or in UTF-8, and overrides.
TEST(Output, WhatATerminalObeysOrReordersIsWrittenOut) {
  EXPECT_EQ(printable("a\xc2\x9b"
                      "31mb"),
            "a\\u{009b}31mb");
  EXPECT_EQ(printable("a\x9b"
                      "31m\xff\xe2\x80"),
            "a\\x9b31m\\xff\\xe2\\x80");
  EXPECT_EQ(printable("x\u202Etxt.exe\u2066y\u200F"), "x\\u{202e}txt.exe\\u{2066}y\\u{200f}");
  EXPECT_EQ(printable("日本 é 😀 \u200D"), "日本 é 😀 \u200D");
  EXPECT_EQ(cli::escaped_name("a\nb\tc\x1b"), "a\\x0ab\\x09c\\x1b");
}

/// Whatever the bytes, what comes out holds nothing that a terminal obeys, and text of letters stays.
TEST(Output, NoBytesReachATerminalAsCommands) {
  std::mt19937 draw(3);
  const std::string pieces[] = {"a",      "é",      "日",   "\x1b", "\x9b", "\xc2\x9b",
                                "\u202E", "\u2067", "\xe2", "\x80", "\r",   "\x7f"};
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int n = 0; n < 12; ++n) text += pieces[draw() % std::size(pieces)];
    const std::string shown = cli::escaped(text);
    for (const char* bad : {"\x1b", "\xc2\x9b", "\u202E", "\u2067", "\r", "\x7f"})
      ASSERT_EQ(shown.find(bad), std::string::npos) << shown;
    ASSERT_EQ(cli::escaped(shown), shown) << "it is valid UTF-8 and needs no second round";
  }
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

/// The second of an impatient person's must not undo what the first one asked for.
TEST(SignalsDeathTest, NoFurtherSignalEndsASave) {
  const auto save = [] {
    const cli::StopSignals signals;
    std::raise(SIGHUP);
    signals.hold();
    for (const int signal : {SIGHUP, SIGINT, SIGINT, SIGTERM}) std::raise(signal);
    std::_Exit(cli::StopSignals::received() == SIGHUP ? 7 : 1);
  };
  EXPECT_EXIT(save(), testing::ExitedWithCode(7), "");
}

/// oneDNN's generated kernels keep other values in the stack pointer: a handler that used it would write
/// there.
TEST(SignalsDeathTest, HandlersRunOnAStackOfTheirOwn) {
  const auto run = [] {
    cli::prepare_process();
    const cli::StopSignals signals;
    stack_t stack{};
    bool ready = ::sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) == 0;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGBUS}) {
      struct sigaction action {};
      ready = ready && ::sigaction(signal, nullptr, &action) == 0 && (action.sa_flags & SA_ONSTACK) != 0;
    }
    std::_Exit(ready ? 7 : 1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(7), "");
}

TEST(SignalsDeathTest, AHangUpThatIsIgnoredStaysSo) {
  const auto run = [] {
    std::signal(SIGHUP, SIG_IGN);
    const cli::StopSignals signals;
    std::raise(SIGHUP);
    std::_Exit(cli::StopSignals::received() == 0 ? 7 : 1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace candela
