#include "cases/measure.h"

#include <algorithm>
#include <chrono>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>

#include "cases/runs.h"

namespace candela::cases {
namespace {

using Clock = std::chrono::steady_clock;

double median(std::vector<double> times) {
  if (times.empty()) return 0;
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

struct Medians {
  double seconds, yardstick_seconds;
};

/// Calls `body(run)` until enough runs and enough time are spent; `body` returns the seconds that count.
template <class F>
Medians medians_of(const MeasureOptions& options, F&& body) {
  std::vector<double> times;
  std::vector<double> yardstick;
  double total = 0;
  for (int run = 0; run < options.min_runs || total < options.min_seconds; ++run) {
    times.push_back(body(run));
    total += times.back();
    if (options.yardstick) {
      const auto start = Clock::now();
      options.yardstick();
      yardstick.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    if (run >= 10 * options.min_runs) break;
  }
  return {median(times), median(yardstick)};
}

std::size_t input_bytes(const OpCase& op_case, DType dtype) {
  std::size_t bytes = 0;
  for (const Input& input : op_case.inputs) {
    bytes += static_cast<std::size_t>(numel(input.shape)) * size_of(input.dtype.value_or(dtype));
  }
  return bytes;
}

template <class F>
double seconds_of(Device device, F&& body) {
  device_interface(device).synchronize();
  const auto start = Clock::now();
  body();
  device_interface(device).synchronize();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Several sets of inputs, and as many of the latest results kept alive, so that neither is in a cache when
/// its turn comes.
struct Rotation {
  std::vector<std::vector<Tensor>> inputs;
  std::vector<std::vector<Tensor>> results;

  Rotation(const OpCase& op_case, DType dtype, Device device, const MeasureOptions& options) {
    const std::size_t bytes = std::max<std::size_t>(input_bytes(op_case, dtype), 1);
    const std::size_t sets = std::clamp<std::size_t>((options.cold_bytes + bytes - 1) / bytes, 2, 64);
    for (std::size_t set = 0; set < sets; ++set) {
      std::vector<Tensor> made;
      for (std::size_t i = 0; i < op_case.inputs.size(); ++i) {
        made.push_back(build_large(op_case, i, dtype, device, set));
      }
      inputs.push_back(std::move(made));
    }
    results.resize(sets);
  }
};

double forward_once(const OpCase& op_case, Rotation& rotation, std::size_t set, Device device) {
  const NoGrad guard;
  std::vector<Tensor>& result = rotation.results[set];
  return seconds_of(device, [&] { result = op_case.fused(rotation.inputs[set]); });
}

double backward_once(const OpCase& op_case, Rotation& rotation, std::size_t set, const Tensor& seed,
                     Device device) {
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < op_case.inputs.size(); ++i) {
    inputs.push_back(rotation.inputs[set][i].detach());
    if (op_case.inputs[i].gradient) inputs.back().set_requires_grad(true);
  }
  std::vector<Tensor> outputs;
  const auto forward = [&] { outputs = op_case.fused(inputs); };
  if (!op_case.gradient_in_forward) forward();
  const double seconds = seconds_of(device, [&] {
    if (op_case.gradient_in_forward) forward();
    backward(outputs.back(), seed);
  });
  std::vector<Tensor>& kept = rotation.results[set];
  kept.clear();
  for (const Tensor& input : inputs) kept.push_back(input.grad());
  return seconds;
}

}  // namespace

Measurement measure(const OpCase& op_case, DType dtype, Device device, bool backward,
                    const MeasureOptions& options) {
  Rotation rotation(op_case, dtype, device, options);
  const std::size_t sets = rotation.inputs.size();
  Tensor seed;
  if (backward) {
    const NoGrad guard;
    const Tensor output = op_case.fused(rotation.inputs[0]).back();
    OpCase seed_case{.op = full_name(op_case), .name = "seed", .inputs = {{.shape = output.shape()}}};
    seed = build_large(seed_case, 0, output.dtype(), device, 0);
  }
  const auto once = [&](std::size_t run) {
    return backward ? backward_once(op_case, rotation, run % sets, seed, device)
                    : forward_once(op_case, rotation, run % sets, device);
  };
  for (std::size_t run = 0; run < sets; ++run) once(run);  // touches every block once
  const RunCounts before = count_runs(device);
  const Medians medians = medians_of(options, [&](int run) { return once(static_cast<std::size_t>(run)); });
  const std::vector<std::string> ran =
      ran_between(before, count_runs(device), backward ? op_case.kernel_grad : op_case.kernel);
  Measurement result;
  result.seconds = medians.seconds;
  result.yardstick_seconds = medians.yardstick_seconds;
  const bool plain = backward && op_case.kernel_grad.empty();
  result.implementation = plain ? "plain ops" : (ran.empty() ? "composed" : ran.front());
  return result;
}

}  // namespace candela::cases
