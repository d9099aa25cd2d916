#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// The k largest of each row, in falling order (the lower index first among equals; NaN counts as largest). x
/// [..., D]; values [..., k]; indices i32 [..., k].
struct TopkArgs {
  TensorArg x, values, indices;
  std::int64_t k;
};

}  // namespace candela
