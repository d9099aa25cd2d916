#include "backend/metal/operand.h"

namespace candela::metal {

RowMajor::RowMajor(Engine* engine, const TensorArg& arg, Workspace& memory) : arg_(arg) {
  if (!arg.present() || arg.contiguous()) return;
  arg_ = memory.take_like(arg);
  if (memory.measuring()) return;
  encode_copy(*engine, arg, arg_);
  engine->counters().contiguous_copies.fetch_add(1, std::memory_order_relaxed);
  engine->counters().contiguous_bytes.fetch_add(static_cast<std::uint64_t>(arg.numel()) * size_of(arg.dtype),
                                                std::memory_order_relaxed);
}

RowMajorResult::RowMajorResult(const TensorArg& out, Workspace& memory)
    : out_(out), arg_(out), copied_(out.present() && !out.contiguous()) {
  if (copied_) arg_ = memory.take_like(out);
}

void RowMajorResult::finish(Engine& engine) {
  if (copied_) encode_copy(engine, arg_, out_);
}

}  // namespace candela::metal
