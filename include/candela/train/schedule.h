#pragma once

#include <cstdint>
#include <string_view>

namespace candela {

enum class Schedule : std::uint8_t { Constant, Linear, Cosine };

/// "constant", "linear", "cosine"; throws InvalidArgument for others.
Schedule parse_schedule(std::string_view name);
std::string_view to_string(Schedule schedule);

struct ScheduleOptions {
  Schedule kind = Schedule::Cosine;
  /// learning rate after warm-up
  double peak = 1e-4;
  /// what the decay would reach one step after the last, as a share of the peak
  double floor = 0;
  std::int64_t warmup_steps =
      /// linear rise from 0: step 1 has a rate of 0, step warmup_steps + 1 the peak
      0;
  std::int64_t total_steps = 1;
};

/// The learning rate of `step`, counted from 1: that of transformers' get_constant_, get_linear_ and
/// get_cosine_schedule_with_warmup after step - 1 steps, so that the last step still learns.
double learning_rate(const ScheduleOptions& options, std::int64_t step);

}  // namespace candela
