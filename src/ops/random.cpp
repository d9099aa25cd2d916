#include <candela/core/grad.h>
#include <candela/ops/random.h>

#include "backend/selector.h"
#include "ops/checks.h"

namespace candela {

Tensor uniform(const Shape& shape, Generator& generator, double low, double high, DType dtype,
               Device device) {
  require(is_floating(dtype), "uniform: needs a floating dtype; got {}", to_string(dtype));
  require(low <= high, "uniform: low must not exceed high; got {} and {}", low, high);
  Tensor out = Tensor::empty(shape, dtype, device);
  const std::uint64_t offset = generator.advance(static_cast<std::uint64_t>(out.numel()));
  if (out.numel() > 0)
    run(&KernelTable::uniform, device, UniformArgs{out, generator.seed(), offset, low, high});
  return out;
}

Tensor normal(const Shape& shape, Generator& generator, double mean, double stddev, DType dtype,
              Device device) {
  require(is_floating(dtype), "normal: needs a floating dtype; got {}", to_string(dtype));
  require(stddev >= 0, "normal: stddev must not be negative; got {}", stddev);
  Tensor out = Tensor::empty(shape, dtype, device);
  const std::uint64_t offset = generator.advance(2 * static_cast<std::uint64_t>(out.numel()));
  if (out.numel() > 0)
    run(&KernelTable::normal, device, NormalArgs{out, generator.seed(), offset, mean, stddev});
  return out;
}

namespace {

Tensor run_dropout(const Tensor& x, double p, std::uint64_t seed, std::uint64_t offset) {
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() > 0) run(&KernelTable::dropout, x.device(), DropoutArgs{x, out, seed, offset, p});
  return out;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  check_floating("dropout", "x", x);
  require(p >= 0 && p < 1, "dropout: p must be in [0, 1); got {}", p);
  if (p == 0) return x;
  const std::uint64_t offset = generator.advance(static_cast<std::uint64_t>(x.numel()));
  Tensor out = run_dropout(x, p, generator.seed(), offset);
  if (needs_grad({x})) {
    record("dropout", {x}, {&out},
           [p, seed = generator.seed(), offset](std::span<const Tensor> grads) -> std::vector<Tensor> {
             return {run_dropout(grads[0], p, seed, offset)};
           });
  }
  return out;
}

}  // namespace candela
