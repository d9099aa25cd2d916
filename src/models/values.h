#pragma once

#include <span>
#include <string>

#include <candela/models/model.h>

namespace candela {

/// Whether both hold the same values once the wider dtype is rounded to the narrower. Floating dtypes.
bool same_values(const Tensor& a, const Tensor& b);

/// "model.norm.weight (nan at element 3)": the first tensor with an element that is no finite number; empty
/// if all are finite. Reads the device.
std::string first_non_finite(std::span<const NamedTensor> tensors);

/// The same over the weights of the base model and then the adapters.
std::string first_non_finite(const Model& model);

/// Why results of the model are no finite numbers: the weight or adapter that is none, or that the weights
/// are finite and their results are not. Reads the device.
std::string broken_part(const Model& model);

}  // namespace candela
