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

/// Calls `body(run)` until enough runs and enough time are spent; `body` makes `calls` calls and returns the
/// seconds of one.
template <class F>
Medians medians_of(const MeasureOptions& options, std::size_t calls, F&& body) {
  std::vector<double> times;
  std::vector<double> yardstick;
  double total = 0;
  for (int run = 0; run < options.min_runs || total < options.min_seconds; ++run) {
    times.push_back(body(run));
    total += times.back() * static_cast<double>(calls);
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

/// The seconds of one of `calls` forward calls, on the sets of inputs from `first` on.
double time_forward(const OpCase& op_case, Rotation& rotation, std::size_t first, std::size_t calls,
                    Device device) {
  const NoGrad guard;
  const double seconds = seconds_of(device, [&] {
    for (std::size_t i = first; i < first + calls; ++i) {
      const std::size_t set = i % rotation.inputs.size();
      rotation.results[set] = op_case.fused(rotation.inputs[set]);
    }
  });
  return seconds / static_cast<double>(calls);
}

/// The same of backward passes.
double time_backward(const OpCase& op_case, Rotation& rotation, std::size_t first, std::size_t calls,
                     const Tensor& seed, Device device) {
  struct Pass {
    std::vector<Tensor> inputs, outputs;
  };
  std::vector<Pass> passes(calls);
  for (std::size_t i = 0; i < calls; ++i) {
    Pass& pass = passes[i];
    for (std::size_t n = 0; n < op_case.inputs.size(); ++n) {
      pass.inputs.push_back(rotation.inputs[(first + i) % rotation.inputs.size()][n].detach());
      if (op_case.inputs[n].gradient) pass.inputs.back().set_requires_grad(true);
    }
    if (!op_case.gradient_in_forward) pass.outputs = op_case.fused(pass.inputs);
  }
  const double seconds = seconds_of(device, [&] {
    for (Pass& pass : passes) {
      if (op_case.gradient_in_forward) pass.outputs = op_case.fused(pass.inputs);
      backward(pass.outputs.back(), seed);
    }
  });
  for (std::size_t i = 0; i < calls; ++i) {
    std::vector<Tensor>& kept = rotation.results[(first + i) % rotation.results.size()];
    kept.clear();
    for (const Tensor& input : passes[i].inputs) kept.push_back(input.grad());
  }
  return seconds / static_cast<double>(calls);
}

}  // namespace

Measurement measure(const OpCase& op_case, DType dtype, Device device, bool backward,
                    const MeasureOptions& options) {
  Rotation rotation(op_case, dtype, device, options);
  const std::size_t sets = rotation.inputs.size();
  const auto calls = std::min(static_cast<std::size_t>(std::max(options.calls, 1)), sets);
  Tensor seed;
  if (backward) {
    const NoGrad guard;
    const Tensor output = op_case.fused(rotation.inputs[0]).back();
    OpCase seed_case{.op = full_name(op_case), .name = "seed", .inputs = {{.shape = output.shape()}}};
    seed = build_large(seed_case, 0, output.dtype(), device, 0);
  }
  const auto once = [&](std::size_t run) {
    return backward ? time_backward(op_case, rotation, run * calls, calls, seed, device)
                    : time_forward(op_case, rotation, run * calls, calls, device);
  };
  for (std::size_t run = 0; run * calls < sets; ++run) once(run);  // touches every block once
  const RunCounts before = count_runs(device);
  const Medians medians =
      medians_of(options, calls, [&](int run) { return once(static_cast<std::size_t>(run)); });
  const std::vector<std::string> ran =
      ran_between(before, count_runs(device), backward ? op_case.kernel_grad : op_case.kernel);
  Measurement result;
  result.seconds = medians.seconds;
  result.calls = static_cast<int>(calls);
  result.yardstick_seconds = medians.yardstick_seconds;
  const bool plain = backward && op_case.kernel_grad.empty();
  result.implementation = plain ? "plain ops" : (ran.empty() ? "composed" : ran.front());
  return result;
}

}  // namespace candela::cases
