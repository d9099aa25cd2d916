#include "models/values.h"

#include <cmath>
#include <cstring>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>

namespace candela {
namespace {

/// The elements as host memory, row-major; `tensor` must be contiguous.
const void* host_bytes(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::F32:
      return tensor.data<float>();
    case DType::BF16:
      return tensor.data<BFloat16>();
    case DType::F16:
      return tensor.data<Float16>();
    case DType::F64:
      return tensor.data<double>();
    default:
      throw InvalidArgument(fmt::format("values: expected a floating dtype; got {}", tensor));
  }
}

}  // namespace

bool same_values(const Tensor& a, const Tensor& b) {
  const NoGrad guard;
  if (a.shape() != b.shape()) return false;
  if (a.numel() == 0) return true;
  const DType dtype = size_of(a.dtype()) <= size_of(b.dtype()) ? a.dtype() : b.dtype();
  const auto ready = [&](const Tensor& t) {
    return contiguous(cast(to_device(t.detach(), Device::cpu()), dtype));
  };
  const Tensor left = ready(a);
  const Tensor right = ready(b);
  return std::memcmp(host_bytes(left), host_bytes(right),
                     static_cast<std::size_t>(left.numel()) * size_of(dtype)) == 0;
}

std::string first_non_finite(std::span<const NamedTensor> tensors) {
  const NoGrad guard;
  for (const NamedTensor& named : tensors) {
    if (named.tensor.device().type == DeviceType::Plan) continue;
    const std::vector<float> values = cast(named.tensor.detach(), DType::F32).to_vector<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) return fmt::format("{} ({} at element {})", named.name, values[i], i);
    }
  }
  return {};
}

std::string first_non_finite(const Model& model) {
  std::vector<NamedTensor> tensors = model.named_parameters();
  for (const Linear& layer : model.linears()) {
    if (!layer.adapter.a.defined()) continue;
    tensors.push_back({layer.path + ".lora_A.weight", layer.adapter.a});
    tensors.push_back({layer.path + ".lora_B.weight", layer.adapter.b});
  }
  return first_non_finite(tensors);
}

std::string broken_part(const Model& model) {
  const std::string weight = first_non_finite(model);
  return weight.empty()
             ? "the weights are finite, but their results are not; the model or its adapter is broken"
             : weight + " is no finite number; the model or its adapter is broken";
}

}  // namespace candela
