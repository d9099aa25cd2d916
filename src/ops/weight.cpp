#include <span>
#include <vector>

#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/weight.h>

#include "ops/adjacent.h"

namespace candela {

Weight Weight::rows(std::int64_t first, std::int64_t count) const {
  return values_.with_layout(values_.layout().slice(0, first, first + count));
}

Weight Weight::plus(const Tensor& delta) const {
  return cast(add(cast(values_.detach(), DType::F32), delta), dtype());
}

bool Weight::same_as(const Weight& other) const {
  if (values_.same_as(other.values_)) return true;
  if (!defined() || !other.defined()) return false;
  const Layout& layout = values_.layout();
  const Layout& with = other.values_.layout();
  return values_.storage() == other.values_.storage() && dtype() == other.dtype() &&
         layout.offset == with.offset && layout.shape == with.shape && layout.strides == with.strides;
}

Weight Weight::stacked(std::span<const Weight> parts) {
  std::vector<Tensor> values;
  values.reserve(parts.size());
  for (const Weight& part : parts) values.push_back(part.values_);
  return joined(values, 0);
}

}  // namespace candela
