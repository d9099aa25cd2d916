#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace candela::cli {

/// One line on standard error that shows how far something is: rewritten in place on a terminal, printed
/// every few seconds elsewhere.
class Progress {
 public:
  /// `total` units named `unit` ("steps", "rows"); `quiet` prints nothing at all. update() draws once `pause`
  /// has passed since the start or the last drawing: by default a tenth of a second on a terminal, and two
  /// seconds elsewhere.
  Progress(std::string what, std::int64_t total, std::string unit, bool quiet = false,
           std::optional<std::chrono::milliseconds> pause = {});
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `note` stands behind the bar: loss, tokens per second.
  void update(std::int64_t done, const std::string& note = {});
  /// Prints a line of its own above the bar.
  void say(const std::string& line);
  /// Ends the line; the last state stays visible.
  void finish();

 private:
  void draw(bool final);

  using Clock = std::chrono::steady_clock;
  std::string what_;
  std::string unit_;
  std::string note_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  bool quiet_;
  bool terminal_;
  std::chrono::milliseconds pause_;
  bool finished_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_ = start_;
};

/// "1:05", "2:13:05".
std::string format_duration(double seconds);
/// "1.2 GiB".
std::string format_bytes(double bytes);
/// "1,234,567".
std::string format_count(std::int64_t count);

}  // namespace candela::cli
