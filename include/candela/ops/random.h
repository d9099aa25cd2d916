#pragma once

#include <candela/core/random.h>
#include <candela/core/tensor.h>

namespace candela {

/// Uniform in [low, high), after rounding to the dtype too. Where the dtype holds no value of that range:
/// low, as it rounds.
Tensor uniform(const Shape& shape, Generator& generator, double low = 0, double high = 1,
               DType dtype = DType::F32, Device device = Device::cpu());
Tensor normal(const Shape& shape, Generator& generator, double mean = 0, double stddev = 1,
              DType dtype = DType::F32, Device device = Device::cpu());

/// Zeroes each element with probability p in [0, 1) and scales the rest by 1 / (1 - p). The mask is
/// recomputed for the gradient, not stored.
Tensor dropout(const Tensor& x, double p, Generator& generator);

}  // namespace candela
