#include "backend/metal/operand.h"

#include <span>

namespace candela::metal {

Tensor scratch(const Shape& shape, DType dtype) {
  return Tensor::empty(shape, dtype, Device::metal());
}

Tensor scratch_like(const TensorArg& arg) {
  return scratch(Shape(std::span<const std::int64_t>(arg.shape, static_cast<std::size_t>(arg.rank))),
                 arg.dtype);
}

RowMajor::RowMajor(Engine& engine, const TensorArg& arg) : arg_(arg) {
  if (!arg.present() || arg.contiguous()) return;
  copy_ = scratch_like(arg);
  arg_ = copy_;
  encode_copy(engine, arg, arg_);
  engine.counters().contiguous_copies.fetch_add(1, std::memory_order_relaxed);
  engine.counters().contiguous_bytes.fetch_add(static_cast<std::uint64_t>(arg.numel()) * size_of(arg.dtype),
                                               std::memory_order_relaxed);
}

RowMajorResult::RowMajorResult(const TensorArg& out) : out_(out), arg_(out) {
  if (!out.present() || out.contiguous()) return;
  made_ = scratch_like(out);
  arg_ = made_;
}

void RowMajorResult::finish(Engine& engine) {
  if (made_.defined()) encode_copy(engine, arg_, out_);
}

}  // namespace candela::metal
