#pragma once

#include <cstdint>
#include <limits>

#include <candela/core/tensor.h>

#include "backend/args/tensor_arg.h"
#include "backend/metal/engine.h"
#include "backend/workspace.h"

namespace candela::metal {

/// The largest size or count that shaders index with.
inline constexpr std::int64_t kMaxCount = std::numeric_limits<std::int32_t>::max();

/// f32, f16, bf16: what the own shaders compute with.
inline bool is_shader_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

/// Encodes out = x, converted; any strides.
void encode_copy(Engine& engine, const TensorArg& x, const TensorArg& out);

/// An operand in row-major order: itself, or a copy of it in the workspace, counted as made for contiguity. A
/// measuring workspace notes the copy, and nothing is encoded.
class RowMajor {
 public:
  RowMajor(Engine* engine, const TensorArg& arg, Workspace& memory);
  const TensorArg& arg() const { return arg_; }

 private:
  TensorArg arg_;
};

/// A result in row-major order: the tensor itself, or one in the workspace that `finish` copies into it.
class RowMajorResult {
 public:
  RowMajorResult(const TensorArg& out, Workspace& memory);
  const TensorArg& arg() const { return arg_; }
  void finish(Engine& engine);

 private:
  TensorArg out_, arg_;
  bool copied_;
};

}  // namespace candela::metal
