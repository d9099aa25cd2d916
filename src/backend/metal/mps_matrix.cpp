#include "backend/metal/mps_matrix.h"

namespace candela::metal {

std::optional<MatrixView> matrix_view(const TensorArg& arg) {
  const std::int64_t rows = arg.shape[arg.rank - 2];
  const std::int64_t columns = arg.shape[arg.rank - 1];
  const std::int64_t row_stride = arg.strides[arg.rank - 2];
  const std::int64_t column_stride = arg.strides[arg.rank - 1];
  const auto width = static_cast<std::int64_t>(size_of(arg.dtype));
  const auto view = [&](bool transposed, std::int64_t r, std::int64_t c, std::int64_t stride) {
    return MatrixView{transposed, static_cast<std::size_t>(r), static_cast<std::size_t>(c),
                      static_cast<std::size_t>(stride * width)};
  };
  // A single row or column may have any stride across it.
  if ((column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1)) {
    return view(false, rows, columns, rows == 1 ? columns : row_stride);
  }
  if ((row_stride == 1 || rows == 1) && (column_stride >= rows || columns == 1)) {
    return view(true, columns, rows, columns == 1 ? rows : column_stride);
  }
  return std::nullopt;
}

objc::Matrix matrix_at(const TensorArg& arg, const MatrixView& view, std::int64_t elements,
                       std::size_t matrices, std::size_t matrix_bytes) {
  objc::MatrixShape shape;
  shape.rows = view.rows;
  shape.columns = view.columns;
  shape.matrices = matrices;
  shape.row_bytes = view.row_bytes;
  shape.matrix_bytes = matrix_bytes;
  shape.dtype = arg.dtype;
  return objc::Matrix(arg.storage->native(),
                      static_cast<std::size_t>(arg.offset + elements) * size_of(arg.dtype), shape);
}

objc::Matrix rows_matrix(const TensorArg& arg, bool unsigned_index) {
  objc::MatrixShape shape;
  shape.rows = static_cast<std::size_t>(arg.rows());
  shape.columns = static_cast<std::size_t>(arg.last());
  shape.row_bytes = shape.columns * size_of(arg.dtype);
  shape.dtype = arg.dtype;
  shape.unsigned_index = unsigned_index;
  return objc::Matrix(arg.storage->native(), static_cast<std::size_t>(arg.offset) * size_of(arg.dtype),
                      shape);
}

}  // namespace candela::metal
