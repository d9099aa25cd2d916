#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <type_traits>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/random.h>

#include "backend/dispatch.h"
#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

/// The value of T's format after `value`, upwards or downwards.
template <class T>
double next_value(T value, bool up) {
  if constexpr (std::is_same_v<T, float>) {
    return std::nextafter(value, up ? HUGE_VALF : -HUGE_VALF);
  } else {
    // As whole numbers, the bits of each sign are in the order of magnitude; the sign is the highest.
    constexpr std::uint16_t kSign = 0x8000;
    const bool negative = (value.bits & kSign) != 0;
    if ((value.bits & ~kSign) == 0)
      return static_cast<float>(T::from_bits(static_cast<std::uint16_t>(up ? 1 : kSign | 1)));
    const int step = up != negative ? 1 : -1;
    return static_cast<float>(T::from_bits(static_cast<std::uint16_t>(value.bits + step)));
  }
}

struct Ends {
  double least, most;
};

/// The ends of [low, high) among the values of `dtype`; where it holds none of them, low as it rounds.
Ends representable(double low, double high, DType dtype) {
  if (dtype == DType::F64) return {low, high > low ? std::nextafter(high, low) : low};
  return dispatch_floating(dtype, "uniform", [&]<class T>() {
    const auto at = [](T value) { return static_cast<double>(static_cast<float>(value)); };
    const T first(static_cast<float>(low));
    const T last(static_cast<float>(high));
    const Ends ends{at(first) < low ? next_value(first, true) : at(first),
                    at(last) >= high ? next_value(last, false) : at(last)};
    return ends.least <= ends.most ? ends : Ends{at(first), at(first)};
  });
}

}  // namespace

Tensor uniform(const Shape& shape, Generator& generator, double low, double high, DType dtype,
               Device device) {
  require(is_floating(dtype), "uniform: needs a floating dtype; got {}", to_string(dtype));
  require(low <= high && std::isfinite(low) && std::isfinite(high),
          "uniform: low must not exceed high, both finite; got {} and {}", low, high);
  Tensor out = Tensor::empty(shape, dtype, device);
  const std::uint64_t offset = generator.advance(static_cast<std::uint64_t>(out.numel()));
  const Ends ends = representable(low, high, dtype);
  std::string reasons;
  if (out.numel() > 0 &&
      !try_run(&KernelTable::uniform, device,
               UniformArgs{out, generator.seed(), offset, low, high, ends.least, ends.most}, &reasons)) {
    log_composed_once("uniform", device, reasons);
    return composed::uniform(shape, generator.seed(), offset, low, high, dtype, device);
  }
  return out;
}

Tensor normal(const Shape& shape, Generator& generator, double mean, double stddev, DType dtype,
              Device device) {
  require(is_floating(dtype), "normal: needs a floating dtype; got {}", to_string(dtype));
  require(stddev >= 0, "normal: stddev must not be negative; got {}", stddev);
  Tensor out = Tensor::empty(shape, dtype, device);
  const std::uint64_t offset = generator.advance(2 * static_cast<std::uint64_t>(out.numel()));
  std::string reasons;
  if (out.numel() > 0 && !try_run(&KernelTable::normal, device,
                                  NormalArgs{out, generator.seed(), offset, mean, stddev}, &reasons)) {
    log_composed_once("normal", device, reasons);
    return composed::normal(shape, generator.seed(), offset, mean, stddev, dtype, device);
  }
  return out;
}

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  check_floating("dropout", "x", x);
  require(p >= 0 && p < 1, "dropout: p must be in [0, 1); got {}", p);
  if (p == 0) return x;
  const std::uint64_t seed = generator.seed();
  const std::uint64_t offset = generator.advance(static_cast<std::uint64_t>(x.numel()));
  const Tensor base = generator.base();
  if (base.defined()) {
    check_same_device("dropout", {x, base});
    require(base.dtype() == DType::I64 && base.numel() == 1,
            "dropout: the generator's base must be i64 [1]; got {}", base);
  }
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  std::string reasons;
  if (x.numel() > 0 &&
      !try_run(&KernelTable::dropout, x.device(), DropoutArgs{x, out, seed, offset, p, base}, &reasons)) {
    log_composed_once("dropout", x.device(), reasons);
    const auto start = base.defined() ? static_cast<std::uint64_t>(base.to_vector<std::int64_t>()[0]) : 0;
    return composed::dropout(x, p, seed, offset + start);
  }
  if (needs_grad({x})) {
    record("dropout", {x}, {&out},
           [p, seed, offset, base](std::span<const Tensor> grads) -> std::vector<Tensor> {
             const Tensor& dy = grads[0];
             Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
             if (dy.numel() > 0)
               run(&KernelTable::dropout, dy.device(), DropoutArgs{dy, dx, seed, offset, p, base});
             return {dx};
           });
  }
  return out;
}

namespace composed {
namespace {

/// The number at a position of the seed's sequence: u_i of args/random.h.
double uniform_at(std::uint64_t seed, std::uint64_t position) {
  return static_cast<double>(uniform_from_bits(philox(seed, position / 4, 0)[position % 4]));
}

/// Element i = value(i), made in f64 on the host.
template <class F>
Tensor tabulate(const Shape& shape, DType dtype, Device device, F&& value) {
  std::vector<double> values(static_cast<std::size_t>(numel(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(static_cast<std::uint64_t>(i));
  return to_device(cast(Tensor::from_values(values, shape), dtype), device);
}

}  // namespace

Tensor uniform(const Shape& shape, std::uint64_t seed, std::uint64_t offset, double low, double high,
               DType dtype, Device device) {
  const Ends ends = representable(low, high, dtype);
  return tabulate(shape, dtype, device, [&](std::uint64_t i) {
    return std::clamp(low + (high - low) * uniform_at(seed, offset + i), ends.least, ends.most);
  });
}

Tensor normal(const Shape& shape, std::uint64_t seed, std::uint64_t offset, double mean, double stddev,
              DType dtype, Device device) {
  return tabulate(shape, dtype, device, [&](std::uint64_t i) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform_at(seed, offset + 2 * i)));
    return mean + stddev * radius * std::cos(2 * std::numbers::pi * uniform_at(seed, offset + 2 * i + 1));
  });
}

Tensor dropout(const Tensor& x, double p, std::uint64_t seed, std::uint64_t offset) {
  // A dropped element is zero whatever it held, so it is not multiplied by 0: it is taken from a zero behind
  // x.
  std::vector<std::int64_t> from(static_cast<std::size_t>(x.numel()));
  for (std::size_t i = 0; i < from.size(); ++i)
    from[i] = uniform_at(seed, offset + i) >= p ? static_cast<std::int64_t>(i) : x.numel();
  const Tensor scaled = affine(reshape(x, {x.numel()}), 1 / (1 - p), 0);
  const Tensor pool = concat({scaled, zeros({1}, x.dtype(), x.device())}, 0);
  return reshape(candela::gather(pool, 0, Tensor::from_values(from, {x.numel()}, x.device())), x.shape());
}

}  // namespace composed
}  // namespace candela
