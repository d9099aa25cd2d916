// MPSMatrixMultiplication and MPSMatrixVectorMultiplication.

#include <cstring>

#include "mps.h"

namespace emulator {
namespace {

/// f32 and f16 throughout, or 8- and 16-bit integers to f32; what newer systems add (bfloat16) is to be asked
/// for, not assumed.
void check_types(const char* method, MPSDataType left, MPSDataType right, MPSDataType result) {
  if (left != right)
    refuse(method, text("Input data types must match: 0x%x and 0x%x.", static_cast<unsigned>(left),
                        static_cast<unsigned>(right)));
  if (is_float(left) && result == left) return;
  if ((left == MPSDataTypeInt8 || left == MPSDataTypeInt16) && result == MPSDataTypeFloat32) return;
  refuse(method, text("Unsupported data types: inputs 0x%x, result 0x%x.", static_cast<unsigned>(left),
                      static_cast<unsigned>(result)));
}

MultiplicationState* make_multiplication(const char* method, const char* name, id<MTLDevice> device,
                                         bool transpose_left, bool transpose_right, NSUInteger rows,
                                         NSUInteger columns, NSUInteger interior, double alpha, double beta) {
  check_device(method, device);
  check(rows > 0 && columns > 0 && interior > 0, method, "every size must be > 0.");
  auto* state = new MultiplicationState(name);
  state->shape = {
      transpose_left,          transpose_right, rows, columns, interior, static_cast<float>(alpha),
      static_cast<float>(beta)};
  return state;
}

/// One product of a batch.
struct Product {
  GemmShape shape;
  MatrixView left, right, result;
};

/// Rows from the first one where (row + 2 K) N element size reaches the limit hold whatever: NaN here.
void corrupt(const Product& product, std::uint64_t limit) {
  const std::uint64_t row_bytes = product.shape.n * (product.result.type == Element::Float16 ? 2U : 4U);
  for (std::size_t row = 0; row < product.shape.m; ++row) {
    if ((row + 2 * product.shape.k) * row_bytes < limit) continue;
    std::memset(product.result.row(row), 0xff, row_bytes);
  }
}

void encode_products(const char* method, const char* name, id<MTLCommandBuffer> command_buffer,
                     const std::vector<id>& buffers, std::vector<Product> products) {
  encode_mps(method, command_buffer, name, buffers, [products = std::move(products)] {
    const std::uint64_t limit = State::get().limits().mps_product;
    for (const Product& product : products) {
      gemm(product.shape, product.left, product.right, product.result);
      corrupt(product, limit);
    }
  });
}

}  // namespace
}  // namespace emulator

using emulator::AreaState;
using emulator::check_area;
using emulator::guarded;
using emulator::MatrixState;
using emulator::MultiplicationState;
using emulator::ObjectState;
using emulator::state_of;

@implementation MPSMatrixMultiplication

- (instancetype)initWithDevice:(id<MTLDevice>)device
                 transposeLeft:(BOOL)transposeLeft
                transposeRight:(BOOL)transposeRight
                    resultRows:(NSUInteger)resultRows
                 resultColumns:(NSUInteger)resultColumns
               interiorColumns:(NSUInteger)interiorColumns
                         alpha:(double)alpha
                          beta:(double)beta {
  return [super initWithState:guarded(self, [&]() -> ObjectState* {
                  return emulator::make_multiplication(
                      "[MPSMatrixMultiplication initWithDevice:...]", "MPSMatrixMultiplication", device,
                      transposeLeft, transposeRight, resultRows, resultColumns, interiorColumns, alpha, beta);
                })];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    resultRows:(NSUInteger)resultRows
                 resultColumns:(NSUInteger)resultColumns
               interiorColumns:(NSUInteger)interiorColumns {
  return [self initWithDevice:device
                transposeLeft:NO
               transposeRight:NO
                   resultRows:resultRows
                resultColumns:resultColumns
              interiorColumns:interiorColumns
                        alpha:1
                         beta:0];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  (void)device;
  emulator::discard(self);
  emulator::refuse("[MPSMatrixMultiplication initWithDevice:]", "use the initializer with the sizes");
}
- (MTLOrigin)leftMatrixOrigin {
  return state_of<AreaState>(self).primary;
}
- (void)setLeftMatrixOrigin:(MTLOrigin)origin {
  state_of<AreaState>(self).primary = origin;
}
- (MTLOrigin)rightMatrixOrigin {
  return state_of<AreaState>(self).secondary;
}
- (void)setRightMatrixOrigin:(MTLOrigin)origin {
  state_of<AreaState>(self).secondary = origin;
}
- (MTLOrigin)resultMatrixOrigin {
  return state_of<AreaState>(self).result;
}
- (void)setResultMatrixOrigin:(MTLOrigin)origin {
  state_of<AreaState>(self).result = origin;
}
- (NSUInteger)batchStart {
  return state_of<AreaState>(self).batch_start;
}
- (void)setBatchStart:(NSUInteger)start {
  state_of<AreaState>(self).batch_start = start;
}
- (NSUInteger)batchSize {
  return state_of<AreaState>(self).batch_size;
}
- (void)setBatchSize:(NSUInteger)size {
  state_of<AreaState>(self).batch_size = size;
}

- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   leftMatrix:(MPSMatrix*)leftMatrix
                  rightMatrix:(MPSMatrix*)rightMatrix
                 resultMatrix:(MPSMatrix*)resultMatrix {
  const char* method =
      "-[MPSMatrixMultiplication encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:]";
  auto& kernel = state_of<MultiplicationState>(self);
  const emulator::Encoding guard(method, kernel);
  const MatrixState& left = emulator::matrix_of(method, "leftMatrix", leftMatrix);
  const MatrixState& right = emulator::matrix_of(method, "rightMatrix", rightMatrix);
  const MatrixState& result = emulator::matrix_of(method, "resultMatrix", resultMatrix);
  emulator::check_types(method, left.type, right.type, result.type);
  const auto& shape = kernel.shape;
  const NSUInteger left_rows = shape.transpose_a ? shape.k : shape.m,
                   left_columns = shape.transpose_a ? shape.m : shape.k;
  const NSUInteger right_rows = shape.transpose_b ? shape.n : shape.k,
                   right_columns = shape.transpose_b ? shape.k : shape.n;
  check_area(method, "left input matrix", left, kernel.primary, left_rows, left_columns);
  check_area(method, "right input matrix", right, kernel.secondary, right_rows, right_columns);
  check_area(method, "result matrix", result, kernel.result, shape.m, shape.n);
  const NSUInteger batches = emulator::batches_of(method, kernel, {&left, &right, &result});
  if (result.overlaps(left, shape.m, shape.n, kernel.result, left_rows, left_columns, kernel.primary,
                      kernel.batch_start, batches) ||
      result.overlaps(right, shape.m, shape.n, kernel.result, right_rows, right_columns, kernel.secondary,
                      kernel.batch_start, batches))
    emulator::refuse(method, "the result matrix overlaps an input matrix.");
  std::vector<emulator::Product> products;
  for (NSUInteger i = kernel.batch_start; i < kernel.batch_start + batches; ++i)
    products.push_back({shape, left.view(i, kernel.primary), right.view(i, kernel.secondary),
                        result.view(i, kernel.result)});
  emulator::encode_products(method, "MPSMatrixMultiplication", commandBuffer,
                            {left.buffer.get(), right.buffer.get(), result.buffer.get()},
                            std::move(products));
}

@end

@implementation MPSMatrixVectorMultiplication

- (instancetype)initWithDevice:(id<MTLDevice>)device
                     transpose:(BOOL)transpose
                          rows:(NSUInteger)rows
                       columns:(NSUInteger)columns
                         alpha:(double)alpha
                          beta:(double)beta {
  return [super initWithState:guarded(self, [&]() -> ObjectState* {
                  // A vector is a matrix of one row: y = x * op(A)^T, so that rows of y and x lie as the
                  // vectors do.
                  return emulator::make_multiplication("[MPSMatrixVectorMultiplication initWithDevice:...]",
                                                       "MPSMatrixVectorMultiplication", device, false,
                                                       !transpose, 1, rows, columns, alpha, beta);
                })];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device rows:(NSUInteger)rows columns:(NSUInteger)columns {
  return [self initWithDevice:device transpose:NO rows:rows columns:columns alpha:1 beta:0];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  (void)device;
  emulator::discard(self);
  emulator::refuse("[MPSMatrixVectorMultiplication initWithDevice:]", "use the initializer with the sizes");
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  inputMatrix:(MPSMatrix*)inputMatrix
                  inputVector:(MPSVector*)inputVector
                 resultVector:(MPSVector*)resultVector {
  const char* method =
      "-[MPSMatrixVectorMultiplication encodeToCommandBuffer:inputMatrix:inputVector:resultVector:]";
  auto& kernel = state_of<MultiplicationState>(self);
  const emulator::Encoding guard(method, kernel);
  const MatrixState& matrix = emulator::matrix_of(method, "inputMatrix", inputMatrix);
  const MatrixState& vector = emulator::matrix_of(method, "inputVector", inputVector);
  const MatrixState& result = emulator::matrix_of(method, "resultVector", resultVector);
  emulator::check_types(method, matrix.type, vector.type, result.type);
  emulator::check(
      kernel.secondary.y == 0 && kernel.secondary.z == 0 && kernel.result.y == 0 && kernel.result.z == 0,
      method, "the origin of a vector has only x.");
  const auto& shape = kernel.shape;
  const bool transposed = !shape.transpose_b;  // op(A) = A^T
  const NSUInteger rows = transposed ? shape.k : shape.n, columns = transposed ? shape.n : shape.k;
  const MTLOrigin from{0, kernel.secondary.x, 0}, to{0, kernel.result.x, 0};
  check_area(method, "input matrix", matrix, kernel.primary, rows, columns);
  check_area(method, "input vector", vector, from, 1, shape.k);
  check_area(method, "result vector", result, to, 1, shape.n);
  const NSUInteger batches = emulator::batches_of(method, kernel, {&matrix, &vector, &result});
  if (result.overlaps(matrix, 1, shape.n, to, rows, columns, kernel.primary, kernel.batch_start, batches) ||
      result.overlaps(vector, 1, shape.n, to, 1, shape.k, from, kernel.batch_start, batches))
    emulator::refuse(method, "the result vector overlaps an input.");
  std::vector<emulator::Product> products;
  for (NSUInteger i = kernel.batch_start; i < kernel.batch_start + batches; ++i)
    products.push_back({shape, vector.view(i, from), matrix.view(i, kernel.primary), result.view(i, to)});
  emulator::encode_products(method, "MPSMatrixVectorMultiplication", commandBuffer,
                            {matrix.buffer.get(), vector.buffer.get(), result.buffer.get()},
                            std::move(products));
}

@end
