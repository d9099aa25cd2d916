#include <algorithm>
#include <cmath>
#include <numbers>

#include <candela/core/error.h>
#include <candela/train/schedule.h>

namespace candela {

Schedule parse_schedule(std::string_view name) {
  if (name == "constant") return Schedule::Constant;
  if (name == "linear") return Schedule::Linear;
  if (name == "cosine") return Schedule::Cosine;
  throw InvalidArgument(fmt::format("schedule: expected constant, linear or cosine; got \"{}\"", name));
}

std::string_view to_string(Schedule schedule) {
  switch (schedule) {
    case Schedule::Constant:
      return "constant";
    case Schedule::Linear:
      return "linear";
    case Schedule::Cosine:
      return "cosine";
  }
  throw InvalidArgument("schedule: unknown value");
}

double learning_rate(const ScheduleOptions& options, std::int64_t step) {
  require(step >= 1, "learning_rate: steps count from 1; got {}", step);
  const std::int64_t before = step - 1;
  if (before < options.warmup_steps) {
    return options.peak * static_cast<double>(before) / static_cast<double>(options.warmup_steps);
  }
  const auto decay_steps =
      static_cast<double>(std::max<std::int64_t>(options.total_steps - options.warmup_steps, 1));
  const double done = std::clamp(static_cast<double>(before - options.warmup_steps) / decay_steps, 0.0, 1.0);
  double share = 1;
  if (options.kind == Schedule::Linear) share = 1 - done;
  if (options.kind == Schedule::Cosine) share = 0.5 * (1 + std::cos(std::numbers::pi * done));
  return options.peak * (options.floor + (1 - options.floor) * share);
}

}  // namespace candela
