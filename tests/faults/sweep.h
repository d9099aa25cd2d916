#pragma once

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <new>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <candela/core/error.h>

/// Runs one step after the other with something going wrong at each, every time in a process of its own.
namespace candela::test {

/// Exit codes of a try: as if nothing had failed, with an error that says so, after its last call.
inline constexpr int kDone = 0;
inline constexpr int kRefused = 3;
inline constexpr int kPast = 4;

/// CANDELA_SWEEP=full takes every point, as `make nightly` does; else some, spread over all.
inline bool full_sweep() {
  const char* const wanted = std::getenv("CANDELA_SWEEP");
  return wanted != nullptr && std::string(wanted) == "full";
}

/// The points of [1, count] to try: all, or about `some`.
inline std::vector<long> points_of(long count, long some) {
  std::vector<long> points;
  const long step = full_sweep() ? 1 : std::max(count / some, 1L);
  for (long at = 1; at <= count; at += step) points.push_back(at);
  return points;
}

/// Notes what was tried for BENCHMARKS.md: a line "NAME<tab>TRIES" in the file CANDELA_SWEEP_REPORT.
inline void report_tries(const std::string& name, long tries) {
  if (const char* const file = std::getenv("CANDELA_SWEEP_REPORT"))
    std::ofstream(file, std::ios::app) << fmt::format("{}\t{}\n", name, tries);
}

/// Runs `body` in a child. Its exit code; 128 + the signal that ended it.
inline int in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      body();
      ::_exit(kDone);
    } catch (const Error&) {
      ::_exit(kRefused);
    } catch (const std::bad_alloc&) {
      ::_exit(kRefused);
    }
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace candela::test
