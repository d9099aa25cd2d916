#pragma once

#include <cstddef>
#include <cstdint>

#include <candela/core/dtype.h>

#include "backend/metal/objc/command.h"

/// Metal Performance Shaders over matrices in buffers. Kernel objects hold mutable state while they encode:
/// one thread at a time may use one.
namespace candela::metal::objc {

/// Where the matrices of a buffer lie: row-major, `matrices` of them, `matrix_bytes` apart. Strides in bytes.
struct MatrixShape {
  std::size_t rows = 0, columns = 0, matrices = 1;
  std::size_t row_bytes = 0, matrix_bytes = 0;
  DType dtype = DType::F32;
  /// i32 tensors that MPS writes as UInt32
  bool unsigned_index = false;
};

/// MPSMatrixDescriptor.
class MatrixDescriptor : public Object {
 public:
  explicit MatrixDescriptor(const MatrixShape& shape);
  /// The row stride that MPS recommends.
  static std::size_t recommended_row_bytes(std::size_t columns, DType dtype);
};

/// MPSMatrix: a buffer seen through a descriptor, without a copy.
class Matrix : public Object {
 public:
  /// `buffer` is a MemoryBlock::native; `offset` in bytes. Throws DeviceError if MPS refuses.
  Matrix(void* buffer, std::size_t offset, const MatrixShape& shape);
};

/// MPSVector: `length` adjacent elements.
class Vector : public Object {
 public:
  Vector(void* buffer, std::size_t offset, std::size_t length, DType dtype);
};

/// The sizes and factors that fix an MPSMatrixMultiplication: C [rows, columns] = alpha op(A) op(B) + beta C.
struct ProductShape {
  bool transpose_left = false, transpose_right = false;
  std::size_t rows = 0, columns = 0, interior = 0;
  double alpha = 1, beta = 0;
  bool operator==(const ProductShape&) const = default;
};

class MatrixMultiplication : public Object {
 public:
  MatrixMultiplication(const Device& device, const ProductShape& shape);
  /// Over the first `batch` matrices of each operand.
  void encode(const CommandBuffer& buffer, const Matrix& left, const Matrix& right, const Matrix& result,
              std::size_t batch);
};

/// y [rows] = alpha op(A) x + beta y, op(A) [rows, columns].
struct VectorProductShape {
  bool transpose = false;
  std::size_t rows = 0, columns = 0;
  double alpha = 1, beta = 0;
};

class MatrixVectorMultiplication : public Object {
 public:
  MatrixVectorMultiplication(const Device& device, const VectorProductShape& shape);
  void encode(const CommandBuffer& buffer, const Matrix& matrix, const Vector& x, const Vector& y);
};

/// MPSMatrixSoftMax or MPSMatrixLogSoftMax: along the rows of a matrix.
class MatrixSoftmax : public Object {
 public:
  MatrixSoftmax(const Device& device, bool log);
  void encode(const CommandBuffer& buffer, const Matrix& x, const Matrix& result);
};

/// MPSMatrixSoftMaxGradient.
class MatrixSoftmaxGradient : public Object {
 public:
  explicit MatrixSoftmaxGradient(const Device& device);
  void encode(const CommandBuffer& buffer, const Matrix& gradient, const Matrix& forward,
              const Matrix& result);
};

inline constexpr std::size_t kMaxMpsTopk = 16;

/// MPSMatrixFindTopK: the k <= 16 largest of each row; the indices are UInt32.
class MatrixFindTopk : public Object {
 public:
  MatrixFindTopk(const Device& device, std::size_t k);
  void encode(const CommandBuffer& buffer, const Matrix& x, const Matrix& indices, const Matrix& values);
};

}  // namespace candela::metal::objc
