#pragma once

#include <string>

#include "cases/op_case.h"

/// What the tests ask of a case. Every function returns an empty string if all is well, and what is wrong
/// otherwise.
namespace candela::cases {

/// The largest error allowed, relative to the largest finite magnitude of the reference (docs/numerics.md).
double error_limit(DType dtype);

/// `result` against `reference` (f64, or integers): shape; NaN and infinities in the same places; the rest
/// within error_limit of the result's own dtype. Integers must be equal.
std::string compare(const Tensor& result, const Tensor& reference);

/// The op on `device` in `dtype` against the composed reference in f64 on the same rounded inputs.
std::string check_forward(const OpCase& op_case, DType dtype, Device device);

/// The op's gradients against those of the composed reference in f64, where they are NaN or infinite too; for
/// an op without: that it refuses (or cuts the graph), as the case says.
std::string check_gradient(const OpCase& op_case, DType dtype, Device device);

/// The composed reference's gradients in f64 against central finite differences, on a sample of the elements.
std::string check_reference_gradient(const OpCase& op_case);

/// Whether check_reference_gradient applies: a gradient flows, and the inputs are finite and of moderate
/// size.
bool has_reference_gradient(const OpCase& op_case);

}  // namespace candela::cases
