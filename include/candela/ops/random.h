#pragma once

#include <candela/core/random.h>
#include <candela/core/tensor.h>

namespace candela {

/// Uniform in [low, high), after rounding to the dtype (f32, bf16, f16; f64 as reference) too. Where the
/// dtype holds no value of that range: low, as it rounds. Throws InvalidArgument for an integer dtype, and
/// unless low <= high, both finite. Element i takes position i of those that the generator gives.
Tensor uniform(const Shape& shape, Generator& generator, double low = 0, double high = 1,
               DType dtype = DType::F32, Device device = Device::cpu());
/// Normal numbers by Box and Muller (1958), two positions of the generator for each; dtypes as uniform.
/// Throws InvalidArgument for an integer dtype or a negative stddev.
Tensor normal(const Shape& shape, Generator& generator, double mean = 0, double stddev = 1,
              DType dtype = DType::F32, Device device = Device::cpu());

/// Zeroes each element of x (dtypes as uniform) with probability p and scales the rest by 1 / (1 - p); x
/// itself where p is 0. Gradient; the mask is recomputed for it, not stored. Throws InvalidArgument unless p
/// is in [0, 1).
Tensor dropout(const Tensor& x, double p, Generator& generator);

}  // namespace candela
