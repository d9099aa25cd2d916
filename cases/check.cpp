#include "cases/check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>

namespace candela::cases {
namespace {

/// The largest finite value, and the smallest above zero: no format is nearer to a value than half its own
/// spacing.
struct Range {
  double largest, smallest;
};

Range range_of(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return {std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()};
    case DType::BF16:
      return {0x1.FEp127, 0x1p-133};
    case DType::F16:
      return {65504, 0x1p-24};
    default:
      return {std::numeric_limits<double>::max(), std::numeric_limits<double>::denorm_min()};
  }
}

std::vector<double> values_of(const Tensor& tensor) {
  return cast(to_device(tensor.detach(), Device::cpu()), DType::F64).to_vector<double>();
}

std::string compare_values(const std::vector<double>& got, std::vector<double> expected, double limit,
                           Range range) {
  double largest = 0;
  for (double& value : expected) {
    // What the format cannot hold rounds to infinity.
    if (std::abs(value) > range.largest * (1 + limit)) value = std::copysign(HUGE_VAL, value);
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  const double allowed = limit * largest + range.smallest;
  double worst = -1;
  std::size_t at = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool edge = std::isfinite(expected[i]) && std::abs(expected[i]) > range.largest * (1 - limit) &&
                      std::isinf(got[i]) && std::signbit(got[i]) == std::signbit(expected[i]);
    if (edge) continue;
    if (!std::isfinite(expected[i]) || !std::isfinite(got[i])) {
      const bool same = std::isnan(expected[i]) ? std::isnan(got[i]) : got[i] == expected[i];
      if (!same) return fmt::format("element {} is {}, the reference has {}", i, got[i], expected[i]);
      continue;
    }
    const double error = std::abs(got[i] - expected[i]);
    if (error > worst) {
      worst = error;
      at = i;
    }
  }
  if (worst <= allowed) return {};
  return fmt::format(
      "element {} is {:.9g}, the reference has {:.9g}: off by {:.3g} of the largest ({:.3g}), allowed is "
      "{:.3g}",
      at, got[at], expected[at], worst / largest, largest, limit);
}

/// sum_i sum(outputs_i * seeds_i): one number through which gradients reach every output.
Tensor seeded_loss(const std::vector<Tensor>& outputs, const std::vector<Tensor>& seeds, DType dtype) {
  Tensor loss;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!seeds[i].defined() || !outputs[i].requires_grad()) continue;
    const Tensor term = sum(mul(cast(outputs[i], dtype), cast(seeds[i], dtype)));
    loss = loss.defined() ? add(loss, term) : term;
  }
  return loss;
}

/// Seeds for the gradient of each floating output: normal, rounded to the output's dtype; in f64 on the CPU.
std::vector<Tensor> make_seeds(const OpCase& op_case, const std::vector<Tensor>& outputs) {
  std::vector<Tensor> seeds;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!is_floating(outputs[i].dtype())) {
      seeds.emplace_back();
      continue;
    }
    OpCase seed_case;
    seed_case.op = full_name(op_case) + ".seed";
    seed_case.name = std::to_string(i);
    seed_case.inputs = {{.shape = outputs[i].shape()}};
    seeds.push_back(build_inputs(seed_case, outputs[i].dtype(), Device::cpu()).reference[0]);
  }
  return seeds;
}

/// Runs `call`, then backward; the gradient of each input that takes one.
std::vector<Tensor> gradients(const OpCase& op_case, const Call& call, std::vector<Tensor> inputs,
                              const std::vector<Tensor>& seeds, DType loss_dtype, std::string& problem) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (op_case.inputs[i].gradient) inputs[i].set_requires_grad(true);
  }
  const std::vector<Tensor> outputs = call(inputs);
  std::vector<Tensor> placed;
  placed.reserve(seeds.size());
  for (const Tensor& seed : seeds)
    placed.push_back(seed.defined() ? to_device(seed, outputs[0].device()) : Tensor());
  if (inputs[0].device() != Device::cpu()) {
    // f64 may be unknown there: bring the seeds in the outputs' own dtype.
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      if (seeds[i].defined()) placed[i] = to_device(cast(seeds[i], outputs[i].dtype()), outputs[i].device());
    }
  }
  const Tensor loss = seeded_loss(outputs, placed, loss_dtype);
  if (!loss.defined()) {
    problem = "no output carries a gradient";
    return {};
  }
  backward(loss);
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!op_case.inputs[i].gradient) continue;
    if (!inputs[i].grad().defined()) problem = fmt::format("input {} got no gradient", i);
    result.push_back(inputs[i].grad());
  }
  return result;
}

bool any_gradient(const OpCase& op_case) {
  return std::any_of(op_case.inputs.begin(), op_case.inputs.end(),
                     [](const Input& input) { return input.gradient; });
}

/// That an op without a gradient says so at the forward call, or gives results that carry none.
std::string check_no_gradient(const OpCase& op_case, std::vector<Tensor> inputs) {
  for (Tensor& input : inputs) {
    if (is_floating(input.dtype())) input.set_requires_grad(true);
  }
  if (op_case.gradient == Gradient::Refused) {
    try {
      op_case.fused(inputs);
    } catch (const Unsupported&) {
      return {};
    }
    return "has no gradient, but the forward call did not throw Unsupported";
  }
  for (const Tensor& output : op_case.fused(inputs)) {
    if (output.requires_grad()) return "a result carries a gradient, the case says that there is none";
  }
  return {};
}

/// The deviation of the elements from their mean: the scale on which an op of them bends.
double spread_of(const Tensor& x) {
  const std::vector<double> values = values_of(x);
  double mean = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  double square = 0;
  for (const double value : values)
    square += (value - mean) * (value - mean) / static_cast<double>(values.size());
  return std::sqrt(square);
}

}  // namespace

double error_limit(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return 1e-5;
    case DType::BF16:
      return 1e-2;
    case DType::F16:
      return 2e-3;
    default:
      return 1e-12;
  }
}

std::string compare(const Tensor& result, const Tensor& reference) {
  if (result.shape() != reference.shape()) {
    return fmt::format("shape is {}, the reference has {}", result.shape(), reference.shape());
  }
  const std::vector<double> got = values_of(result);
  const std::vector<double> expected = values_of(reference);
  if (is_floating(result.dtype())) {
    return compare_values(got, expected, error_limit(result.dtype()), range_of(result.dtype()));
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] != expected[i])
      return fmt::format("element {} is {}, the reference has {}", i, got[i], expected[i]);
  }
  return {};
}

std::string check_forward(const OpCase& op_case, DType dtype, Device device) {
  const BuiltInputs inputs = build_inputs(op_case, dtype, device);
  const std::vector<Tensor> outputs = op_case.fused(inputs.device);
  const std::vector<Tensor> expected = op_case.composed(inputs.reference);
  if (outputs.size() != expected.size()) {
    return fmt::format("{} outputs, the reference has {}", outputs.size(), expected.size());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::string problem = compare(outputs[i], expected[i]);
    if (!problem.empty()) return fmt::format("output {}: {}", i, problem);
  }
  return {};
}

std::string check_gradient(const OpCase& op_case, DType dtype, Device device) {
  const BuiltInputs inputs = build_inputs(op_case, dtype, device);
  if (op_case.gradient != Gradient::Flows) return check_no_gradient(op_case, inputs.device);
  if (!any_gradient(op_case)) return {};
  std::vector<Tensor> probe;
  {
    const NoGrad guard;
    probe = op_case.fused(inputs.device);
  }
  const std::vector<Tensor> seeds = make_seeds(op_case, probe);
  std::string problem;
  const std::vector<Tensor> got =
      gradients(op_case, op_case.fused, inputs.device, seeds, DType::F32, problem);
  if (!problem.empty()) return problem;
  const std::vector<Tensor> expected =
      gradients(op_case, op_case.composed, inputs.reference, seeds, DType::F64, problem);
  if (!problem.empty()) return "reference: " + problem;
  for (std::size_t i = 0; i < got.size(); ++i) {
    problem = compare(got[i], expected[i]);
    if (!problem.empty()) return fmt::format("gradient {}: {}", i, problem);
  }
  return {};
}

bool has_reference_gradient(const OpCase& op_case) {
  if (op_case.bench || op_case.gradient != Gradient::Flows || !any_gradient(op_case)) return false;
  return std::all_of(op_case.inputs.begin(), op_case.inputs.end(), [](const Input& input) {
    const std::int64_t count = numel(input.shape);
    const bool smooth =
        input.fill == Fill::Normal || input.fill == Fill::Uniform || input.fill == Fill::Index;
    // The reference's input is contiguous whatever the case's arrangement; equal rows would put max and min
    // on a kink.
    return smooth && input.arrange != Arrange::Broadcast && count > 0 && count <= 2048;
  });
}

std::string check_reference_gradient(const OpCase& op_case) {
  constexpr std::int64_t kSamples = 12;
  const BuiltInputs inputs = build_inputs(op_case, DType::F32, Device::cpu());
  std::vector<Tensor> start;
  for (const Tensor& input : inputs.reference) start.push_back(clone(input));
  const std::vector<Tensor> seeds = make_seeds(op_case, op_case.composed(start));
  std::string problem;
  const std::vector<Tensor> exact =
      gradients(op_case, op_case.composed, inputs.reference, seeds, DType::F64, problem);
  if (!problem.empty()) return problem;
  const auto loss_at = [&](const std::vector<Tensor>& at) {
    double loss = 0;
    const std::vector<Tensor> outputs = op_case.composed(at);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (seeds[i].defined()) loss += sum(mul(outputs[i], seeds[i])).item();
    }
    return loss;
  };
  std::size_t which = 0;
  for (std::size_t i = 0; i < start.size(); ++i) {
    if (!op_case.inputs[i].gradient) continue;
    const std::vector<double> slopes = values_of(exact[which++]);
    double largest = 1e-3;
    for (const double slope : slopes) largest = std::max(largest, std::abs(slope));
    const std::int64_t step = std::max<std::int64_t>(1, start[i].numel() / kSamples);
    const double h = 1e-5 * std::max(1.0, spread_of(start[i]));
    for (std::int64_t e = 0; e < start[i].numel(); e += step) {
      double* value = start[i].data<double>() + e;
      const double centre = *value;
      *value = centre + h;
      const double above = loss_at(start);
      *value = centre - h;
      const double below = loss_at(start);
      *value = centre;
      const double slope = (above - below) / (2 * h);
      const double error = std::abs(slope - slopes[static_cast<std::size_t>(e)]) / largest;
      if (!(error < 1e-5)) {
        return fmt::format("input {}, element {}: the gradient is {:.9g}, finite differences give {:.9g}", i,
                           e, slopes[static_cast<std::size_t>(e)], slope);
      }
    }
  }
  return {};
}

}  // namespace candela::cases
