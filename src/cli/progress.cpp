#include "cli/progress.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/output.h"

namespace candela::cli {

Progress::Progress(std::string what, std::int64_t total, std::string unit, bool quiet,
                   std::optional<std::chrono::milliseconds> pause)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(std::max<std::int64_t>(total, 1)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) != 0),
      pause_(pause.value_or(std::chrono::milliseconds(terminal_ ? 100 : 2000))) {}

Progress::~Progress() {
  finish();
}

void Progress::update(std::int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  if (quiet_ || Clock::now() - drawn_ < pause_) return;
  drawn_ = Clock::now();
  draw(false);
}

void Progress::say(const std::string& line) {
  if (quiet_) return;
  write_error(fmt::format("{}{}\n", terminal_ ? "\r\x1b[K" : "", printable(line)));
}

void Progress::finish() {
  if (finished_ || quiet_) return;
  finished_ = true;
  draw(true);
}

void Progress::draw(bool final) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  const double left = rate > 0 ? static_cast<double>(total_ - done_) / rate : 0;
  constexpr int kBar = 24;
  const int filled = static_cast<int>(static_cast<double>(done_) / static_cast<double>(total_) * kBar);
  std::string bar;
  for (int i = 0; i < kBar; ++i) bar += i < filled ? "█" : "░";
  const std::string time =
      final || done_ >= total_ ? "in " + format_duration(seconds) : "ETA " + format_duration(left);
  write_error(fmt::format("{}{} {} {}/{} {}  {}{}{}{}{}", terminal_ ? "\r" : "", what_, bar, done_, total_,
                          unit_, note_, note_.empty() ? "" : "  ", time, terminal_ ? "\x1b[K" : "\n",
                          terminal_ && final ? "\n" : ""));
}

std::string format_duration(double seconds) {
  const auto total = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
  if (total >= 3600) return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string format_bytes(double bytes) {
  constexpr double kKibi = 1024;
  if (bytes >= kKibi * kKibi * kKibi) return fmt::format("{:.2f} GiB", bytes / (kKibi * kKibi * kKibi));
  if (bytes >= kKibi * kKibi) return fmt::format("{:.1f} MiB", bytes / (kKibi * kKibi));
  return fmt::format("{:.1f} KiB", bytes / kKibi);
}

std::string format_count(std::int64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3;
       at > 0 && digits[static_cast<std::size_t>(at) - 1] != '-'; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

}  // namespace candela::cli
