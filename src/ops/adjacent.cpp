#include "ops/adjacent.h"

#include <candela/ops/copy.h>

namespace candela {

Tensor enclosing(std::span<const Tensor> parts, int dim) {
  if (parts.empty() || parts.front().rank() == 0) return {};
  const Tensor& first = parts.front();
  Layout whole = first.layout();
  for (const Tensor& part : parts.subspan(1)) {
    const Layout& layout = part.layout();
    if (part.storage() != first.storage() || part.dtype() != first.dtype() ||
        layout.shape.rank() != whole.shape.rank() ||
        layout.offset != whole.offset + whole.shape[dim] * whole.strides[dim])
      return {};
    for (int d = 0; d < whole.shape.rank(); ++d) {
      if (d != dim && layout.shape[d] != whole.shape[d]) return {};
      if (layout.strides[d] != whole.strides[d] && layout.shape[d] != 1) return {};
    }
    whole.shape[dim] += layout.shape[dim];
  }
  return first.detach().with_layout(whole);
}

Tensor joined(std::span<const Tensor> parts, int dim) {
  if (const Tensor whole = enclosing(parts, dim); whole.defined()) return whole;
  std::vector<Tensor> detached;
  detached.reserve(parts.size());
  for (const Tensor& part : parts) detached.push_back(part.detach());
  return concat(detached, dim);
}

std::vector<Tensor> empty_beside(std::span<const Tensor> parts, int dim) {
  std::vector<Tensor> result;
  result.reserve(parts.size());
  const Tensor whole = parts.size() > 1 ? enclosing(parts, dim) : Tensor();
  if (!whole.defined()) {
    for (const Tensor& part : parts)
      result.push_back(Tensor::empty(part.shape(), part.dtype(), part.device()));
    return result;
  }
  const Tensor packed = Tensor::empty(whole.shape(), whole.dtype(), whole.device());
  std::int64_t at = 0;
  for (const Tensor& part : parts) {
    result.push_back(packed.with_layout(packed.layout().slice(dim, at, at + part.shape()[dim])));
    at += part.shape()[dim];
  }
  return result;
}

}  // namespace candela
