#include <algorithm>
#include <cmath>
#include <numbers>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/rope.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"
#include "ops/rotate.h"

namespace candela {
namespace {

/// theta^(-2 i / rotary_dim), i = 0 .. rotary_dim / 2 - 1.
std::vector<double> plain_frequencies(double theta, std::int64_t rotary_dim) {
  std::vector<double> inverse;
  for (std::int64_t i = 0; i < rotary_dim / 2; ++i) {
    inverse.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim)));
  }
  return inverse;
}

std::int64_t original_length(const RopeConfig& config) {
  return config.original_max_positions > 0 ? config.original_max_positions : config.max_positions;
}

/// NTK-aware scaling that grows with the sequence: theta is raised once max_position_embeddings is exceeded,
/// as in transformers, which does not look at original_max_position_embeddings here.
std::vector<double> dynamic_frequencies(const RopeConfig& config, std::int64_t length) {
  const auto trained = static_cast<double>(config.max_positions);
  const double reached = std::max(static_cast<double>(length), trained);
  const auto dim = static_cast<double>(config.rotary_dim);
  const double growth = config.factor * reached / trained - (config.factor - 1);
  return plain_frequencies(config.theta * std::pow(growth, dim / (dim - 2)), config.rotary_dim);
}

/// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
std::vector<double> llama3_frequencies(const RopeConfig& config) {
  const auto trained = static_cast<double>(original_length(config));
  std::vector<double> inverse = plain_frequencies(config.theta, config.rotary_dim);
  for (double& frequency : inverse) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > trained / config.low_freq_factor) {
      frequency /= config.factor;
    } else if (wavelength >= trained / config.high_freq_factor) {
      const double keep = (trained / wavelength - config.low_freq_factor) /
                          (config.high_freq_factor - config.low_freq_factor);
      frequency *= (1 - keep) / config.factor + keep;
    }
  }
  return inverse;
}

double yarn_mscale(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

/// YaRN (Peng et al., 2023): blends plain and stretched frequencies over a ramp of dimensions.
RopeFrequencies yarn_frequencies(const RopeConfig& config) {
  const auto dim = static_cast<double>(config.rotary_dim);
  const auto trained = static_cast<double>(original_length(config));
  const auto correction = [&](double rotations) {
    return dim * std::log(trained / (rotations * 2 * std::numbers::pi)) / (2 * std::log(config.theta));
  };
  double low = correction(config.beta_fast);
  double high = correction(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  RopeFrequencies result{plain_frequencies(config.theta, config.rotary_dim), config.attention_factor};
  for (std::size_t i = 0; i < result.inverse.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    result.inverse[i] *= ramp / config.factor + (1 - ramp);
  }
  if (result.attention_scale == 0) {
    result.attention_scale =
        config.mscale != 0 && config.mscale_all_dim != 0
            ? yarn_mscale(config.factor, config.mscale) / yarn_mscale(config.factor, config.mscale_all_dim)
            : yarn_mscale(config.factor, 1);
  }
  return result;
}

/// x as rope kernels take it: [B, T, H, D] with unit last stride.
Tensor run_rope(const Tensor& x, const RopeTable& table, const Tensor& positions, bool inverse,
                std::string* reasons) {
  const Tensor source = x.strides()[3] == 1 || x.size(3) <= 1 ? x.detach() : clone(x.detach());
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  const bool ran = try_run(&KernelTable::rope, x.device(),
                           RopeArgs{source, table.cos, table.sin, positions, out, inverse}, reasons);
  return ran ? out : Tensor();
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& config, std::int64_t length) {
  require(config.rotary_dim > 0 && config.rotary_dim % 2 == 0,
          "rope: rotary_dim must be positive and even; got {}", config.rotary_dim);
  require(config.theta > 0 && config.factor > 0, "rope: theta and factor must be positive; got {} and {}",
          config.theta, config.factor);
  if (config.type == "default") return {plain_frequencies(config.theta, config.rotary_dim), 1};
  if (config.type == "linear") {
    RopeFrequencies result{plain_frequencies(config.theta, config.rotary_dim), 1};
    for (double& frequency : result.inverse) frequency /= config.factor;
    return result;
  }
  if (config.type == "dynamic") return {dynamic_frequencies(config, length), 1};
  if (config.type == "llama3") return {llama3_frequencies(config), 1};
  if (config.type == "yarn") return yarn_frequencies(config);
  throw Unsupported(
      fmt::format("rope: type must be default, linear, dynamic, llama3 or yarn; got \"{}\"", config.type));
}

RopeTable rope_table(const RopeConfig& config, std::int64_t length, Device device, bool bf16_frequencies) {
  RopeFrequencies frequencies = rope_frequencies(config, length);
  if (bf16_frequencies) {
    for (double& frequency : frequencies.inverse)
      frequency = static_cast<float>(BFloat16(static_cast<float>(frequency)));
  }
  const auto half = static_cast<std::int64_t>(frequencies.inverse.size());
  std::vector<float> cosines;
  std::vector<float> sines;
  cosines.reserve(static_cast<std::size_t>(length * half));
  sines.reserve(static_cast<std::size_t>(length * half));
  for (std::int64_t p = 0; p < length; ++p) {
    for (const double frequency : frequencies.inverse) {
      const double angle = static_cast<double>(p) * frequency;
      cosines.push_back(static_cast<float>(std::cos(angle) * frequencies.attention_scale));
      sines.push_back(static_cast<float>(std::sin(angle) * frequencies.attention_scale));
    }
  }
  return {Tensor::from_values(cosines, {length, half}, device),
          Tensor::from_values(sines, {length, half}, device)};
}

Tensor check_rope(const Tensor& x, const RopeTable& table, const Tensor& positions) {
  check_floating("rope", "x", x);
  check_defined("rope", "cos", table.cos);
  check_defined("rope", "sin", table.sin);
  check_same_device("rope", {x, table.cos, table.sin, positions});
  require(x.rank() == 4, "rope: x must be [B, T, H, D]; got {}", x.shape());
  require(
      table.cos.rank() == 2 && table.cos.shape() == table.sin.shape() && 2 * table.cos.size(1) <= x.size(3),
      "rope: cos and sin must be [P, R / 2] with R <= {}; got {} and {}", x.size(3), table.cos.shape(),
      table.sin.shape());
  require(table.cos.dtype() == DType::F32 && table.sin.dtype() == DType::F32,
          "rope: cos and sin must be f32; got {} and {}", to_string(table.cos.dtype()),
          to_string(table.sin.dtype()));
  require(positions.defined() && positions.dtype() == DType::I32, "rope: positions must be i32; got {}",
          positions);
  const Shape by_row = {x.size(0), x.size(1)};
  require(positions.shape() == Shape{x.size(1)} || positions.shape() == by_row,
          "rope: positions must be [{}] or {}; got {}", x.size(1), by_row, positions.shape());
  refuse_grad("rope through its table", {table.cos, table.sin});
  return positions.with_layout(positions.layout().broadcast_to(by_row));
}

void rotate_in_place(const Tensor& x, const RopeTable& table, const Tensor& positions, bool inverse) {
  if (x.numel() == 0) return;
  const Tensor wide = positions.with_layout(positions.layout().broadcast_to({x.size(0), x.size(1)}));
  run(&KernelTable::rope, x.device(), RopeArgs{x, table.cos, table.sin, wide, x, inverse});
  x.storage()->bump_version();
}

bool rotates_in_place(const Tensor& x) {
  return x.dtype() != DType::F64 && (x.strides()[3] == 1 || x.size(3) <= 1) && !x.layout().may_overlap();
}

void rope_(const Tensor& x, const RopeTable& table, const Tensor& positions) {
  check_rope(x, table, positions);
  check_writable("rope_", "x", x);
  refuse_grad("rope_", {x});
  if (rotates_in_place(x)) {
    rotate_in_place(x.detach(), table, positions, false);
  } else {
    copy_(x, rope(x, table, positions));
  }
}

Tensor rope(const Tensor& x, const RopeTable& table, const Tensor& positions) {
  const Tensor wide = check_rope(x, table, positions);
  std::string reasons;
  Tensor out = run_rope(x, table, wide, false, &reasons);
  if (!out.defined()) {
    log_composed_once("rope", x.device(), reasons);
    return composed::rope(x, table, wide);
  }
  if (needs_grad({x})) {
    record("rope", {x}, {&out},
           [table, wide](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dx = run_rope(grads[0], table, wide, true, nullptr);
             require<Unsupported>(dx.defined(), "rope: no implementation of the gradient takes {}", grads[0]);
             return {dx};
           },
           {table.cos, table.sin, wide});
  }
  return out;
}

namespace composed {

Tensor rope(const Tensor& x, const RopeTable& table, const Tensor& positions) {
  const std::int64_t half = table.cos.size(1);
  const Shape by_row = {x.size(0), x.size(1)};
  const Tensor at = contiguous(positions.with_layout(positions.layout().broadcast_to(by_row)));
  const Tensor cos = unsqueeze(candela::embedding(cast(table.cos, x.dtype()), at), 2);  // [B, T, 1, R / 2]
  const Tensor sin = unsqueeze(candela::embedding(cast(table.sin, x.dtype()), at), 2);
  const Tensor a = slice(x, 3, 0, half);
  const Tensor b = slice(x, 3, half, 2 * half);
  const Tensor rest = slice(x, 3, 2 * half, x.size(3));
  return concat({sub(mul(a, cos), mul(b, sin)), add(mul(b, cos), mul(a, sin)), rest}, 3);
}

}  // namespace composed
}  // namespace candela
