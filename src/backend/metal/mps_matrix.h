#pragma once

#include <optional>

#include "backend/args/tensor_arg.h"
#include "backend/metal/objc/mps.h"
#include "backend/metal/operand.h"

namespace candela::metal {

/// How the last two dimensions of a tensor lie as a row-major matrix in its buffer: as they are, or swapped,
/// which MPS's transpose flags undo.
struct MatrixView {
  bool transposed = false;
  /// as stored
  std::size_t rows = 0, columns = 0;
  std::size_t row_bytes = 0;
};

/// The view of the last two dimensions, or nothing if neither has stride 1 (or rows overlap): such a tensor
/// must be made row-major first.
std::optional<MatrixView> matrix_view(const TensorArg& arg);

/// An operand that MPS can see as matrices: itself, or a row-major copy of it, counted as made for
/// contiguity. Made once where several products share the operand.
class MatrixOperand {
 public:
  MatrixOperand(Engine* engine, const TensorArg& arg, Workspace& memory) : arg_(arg) {
    if (matrix_view(arg).has_value()) return;
    copy_.emplace(engine, arg, memory);
    arg_ = copy_->arg();
  }
  const TensorArg& arg() const { return arg_; }

 private:
  std::optional<RowMajor> copy_;
  TensorArg arg_;
};

/// The matrix (or `matrices` of them, `matrix_bytes` apart) that starts `elements` after the tensor's first
/// element. No copy.
objc::Matrix matrix_at(const TensorArg& arg, const MatrixView& view, std::int64_t elements = 0,
                       std::size_t matrices = 1, std::size_t matrix_bytes = 0);

/// A row-major tensor as one matrix of its rows.
objc::Matrix rows_matrix(const TensorArg& arg, bool unsigned_index = false);

}  // namespace candela::metal
