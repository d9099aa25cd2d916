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

/// One part of a sweep, so that processes can share it: CANDELA_SWEEP_SHARD=K/N tries the points K, K + N,
/// ... (from 0) of those that the whole sweep tries.
struct Shard {
  long index = 0;
  long count = 1;

  static Shard from_environment() {
    Shard shard;
    const char* const wanted = std::getenv("CANDELA_SWEEP_SHARD");
    if (wanted == nullptr) return shard;
    char* end = nullptr;
    shard.index = std::strtol(wanted, &end, 10);
    shard.count = *end == '/' ? std::strtol(end + 1, &end, 10) : 0;
    require(*end == '\0' && shard.index >= 0 && shard.index < shard.count,
            "CANDELA_SWEEP_SHARD must be K/N with 0 <= K < N; got \"{}\"", wanted);
    return shard;
  }
};

/// The points of [1, count] to try here: all (sampled: about `some`, evenly spread), or this shard's of them.
inline std::vector<long> points_of(long count, long some) {
  const Shard shard = Shard::from_environment();
  const long step = full_sweep() ? 1 : std::max(count / std::max(some, 1L), 1L);
  std::vector<long> points;
  for (long at = 1 + shard.index * step; at <= count; at += step * shard.count) points.push_back(at);
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
