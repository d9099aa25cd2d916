// MPSMatrixSoftMax, its logarithm, their gradients, and MPSMatrixFindTopK: kernels that work along rows.

#include "mps.h"

namespace emulator {
namespace {

constexpr NSUInteger kMaxTopK = 16;

void check_same_float(const char* method, const std::vector<const MatrixState*>& matrices) {
  for (const MatrixState* matrix : matrices) {
    if (!is_float(matrix->type))
      refuse(method, text("Unsupported data type 0x%x: the matrices must be float32 or float16.",
                          static_cast<unsigned>(matrix->type)));
    if (matrix->type != matrices.front()->type)
      refuse(method,
             text("Data types must match: 0x%x and 0x%x.", static_cast<unsigned>(matrices.front()->type),
                  static_cast<unsigned>(matrix->type)));
  }
}

/// sourceRows or sourceColumns: the default takes what is left after the origin.
NSUInteger extent_of(const char* method, const char* what, NSUInteger wanted, NSUInteger origin,
                     NSUInteger available) {
  if (origin >= available)
    refuse(method, text("no %s: the origin (%lu) must be < the size of the source matrix (%lu).", what,
                        origin, available));
  if (wanted == NSUIntegerMax) return available - origin;
  if (wanted == 0 || wanted > available - origin)
    refuse(method, text("Number of requested %s (%lu from %lu) exceeds source matrix size (%lu).", what,
                        wanted, origin, available));
  return wanted;
}

/// In-place work is fine row by row; a result that lies across the source is not.
void check_in_place(const char* method, const MatrixState& source, MTLOrigin from, const MatrixState& result,
                    MTLOrigin to, NSUInteger rows, NSUInteger columns, NSUInteger start, NSUInteger batches) {
  const bool same = source.view(start, from).data == result.view(start, to).data &&
                    source.row_bytes == result.row_bytes &&
                    (batches == 1 || source.matrix_bytes == result.matrix_bytes);
  if (!same && result.overlaps(source, rows, columns, to, rows, columns, from, start, batches))
    refuse(method, "the result matrix overlaps the source matrix without being the same.");
}

}  // namespace
}  // namespace emulator

using emulator::AreaState;
using emulator::check_area;
using emulator::MatrixState;
using emulator::MatrixView;
using emulator::state_of;
using emulator::TopKState;

@implementation MPSMatrixSoftMax

- (NSUInteger)sourceRows {
  return state_of<AreaState>(self).source_rows;
}
- (void)setSourceRows:(NSUInteger)rows {
  state_of<AreaState>(self).source_rows = rows;
}
- (NSUInteger)sourceColumns {
  return state_of<AreaState>(self).source_columns;
}
- (void)setSourceColumns:(NSUInteger)columns {
  state_of<AreaState>(self).source_columns = columns;
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  inputMatrix:(MPSMatrix*)inputMatrix
                 resultMatrix:(MPSMatrix*)resultMatrix {
  const char* method = "-[MPSMatrixSoftMax encodeToCommandBuffer:inputMatrix:resultMatrix:]";
  auto& kernel = state_of<AreaState>(self);
  const emulator::Encoding guard(method, kernel);
  const MatrixState& input = emulator::matrix_of(method, "inputMatrix", inputMatrix);
  const MatrixState& result = emulator::matrix_of(method, "resultMatrix", resultMatrix);
  emulator::check_same_float(method, {&input, &result});
  const NSUInteger rows =
      emulator::extent_of(method, "rows", kernel.source_rows, kernel.primary.x, input.rows);
  const NSUInteger columns =
      emulator::extent_of(method, "columns", kernel.source_columns, kernel.primary.y, input.columns);
  check_area(method, "source matrix", input, kernel.primary, rows, columns);
  check_area(method, "result matrix", result, kernel.result, rows, columns);
  const NSUInteger batches = emulator::batches_of(method, kernel, {&input, &result});
  emulator::check_in_place(method, input, kernel.primary, result, kernel.result, rows, columns,
                           kernel.batch_start, batches);
  const bool logarithm = [self isKindOfClass:[MPSMatrixLogSoftMax class]];
  std::vector<std::pair<MatrixView, MatrixView>> work;
  for (NSUInteger i = kernel.batch_start; i < kernel.batch_start + batches; ++i)
    work.emplace_back(input.view(i, kernel.primary), result.view(i, kernel.result));
  emulator::encode_mps(method, commandBuffer, kernel.class_name, {input.buffer.get(), result.buffer.get()},
                       [rows, columns, logarithm, work = std::move(work)] {
                         const bool fast = emulator::State::get().limits().mps_fast_math;
                         for (const auto& [x, y] : work) {
                           emulator::softmax(rows, columns, logarithm, x, y);
                           if (fast) emulator::lose_nan(rows, columns, y);
                         }
                       });
}

@end

@implementation MPSMatrixLogSoftMax
@end

@implementation MPSMatrixSoftMaxGradient

- (NSUInteger)sourceRows {
  return state_of<AreaState>(self).source_rows;
}
- (void)setSourceRows:(NSUInteger)rows {
  state_of<AreaState>(self).source_rows = rows;
}
- (NSUInteger)sourceColumns {
  return state_of<AreaState>(self).source_columns;
}
- (void)setSourceColumns:(NSUInteger)columns {
  state_of<AreaState>(self).source_columns = columns;
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
               gradientMatrix:(MPSMatrix*)gradientMatrix
          forwardOutputMatrix:(MPSMatrix*)forwardOutputMatrix
                 resultMatrix:(MPSMatrix*)resultMatrix {
  const char* method =
      "-[MPSMatrixSoftMaxGradient encodeToCommandBuffer:gradientMatrix:forwardOutputMatrix:resultMatrix:]";
  auto& kernel = state_of<AreaState>(self);
  const emulator::Encoding guard(method, kernel);
  const MatrixState& gradient = emulator::matrix_of(method, "gradientMatrix", gradientMatrix);
  const MatrixState& output = emulator::matrix_of(method, "forwardOutputMatrix", forwardOutputMatrix);
  const MatrixState& result = emulator::matrix_of(method, "resultMatrix", resultMatrix);
  emulator::check_same_float(method, {&gradient, &output, &result});
  const NSUInteger rows =
      emulator::extent_of(method, "rows", kernel.source_rows, kernel.primary.x, gradient.rows);
  const NSUInteger columns =
      emulator::extent_of(method, "columns", kernel.source_columns, kernel.primary.y, gradient.columns);
  check_area(method, "gradient matrix", gradient, kernel.primary, rows, columns);
  check_area(method, "forward output matrix", output, kernel.secondary, rows, columns);
  check_area(method, "result matrix", result, kernel.result, rows, columns);
  const NSUInteger batches = emulator::batches_of(method, kernel, {&gradient, &output, &result});
  emulator::check_in_place(method, gradient, kernel.primary, result, kernel.result, rows, columns,
                           kernel.batch_start, batches);
  emulator::check_in_place(method, output, kernel.secondary, result, kernel.result, rows, columns,
                           kernel.batch_start, batches);
  std::vector<std::array<MatrixView, 3>> work;
  for (NSUInteger i = kernel.batch_start; i < kernel.batch_start + batches; ++i)
    work.push_back(
        {gradient.view(i, kernel.primary), output.view(i, kernel.secondary), result.view(i, kernel.result)});
  emulator::encode_mps(method, commandBuffer, kernel.class_name,
                       {gradient.buffer.get(), output.buffer.get(), result.buffer.get()},
                       [rows, columns, work = std::move(work)] {
                         for (const auto& [dy, y, dx] : work)
                           emulator::softmax_gradient(rows, columns, dy, y, dx);
                       });
}

@end

@implementation MPSMatrixFindTopK

- (instancetype)initWithDevice:(id<MTLDevice>)device numberOfTopKValues:(NSUInteger)count {
  return [super initWithState:emulator::guarded(self, [&]() -> emulator::ObjectState* {
                  emulator::check_device("[MPSMatrixFindTopK initWithDevice:numberOfTopKValues:]", device);
                  auto* state = new TopKState;
                  state->k = count;
                  return state;
                })];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  (void)device;
  emulator::discard(self);
  emulator::refuse("[MPSMatrixFindTopK initWithDevice:]", "use initWithDevice:numberOfTopKValues:");
}
- (NSUInteger)sourceRows {
  return state_of<AreaState>(self).source_rows;
}
- (void)setSourceRows:(NSUInteger)rows {
  state_of<AreaState>(self).source_rows = rows;
}
- (NSUInteger)sourceColumns {
  return state_of<AreaState>(self).source_columns;
}
- (void)setSourceColumns:(NSUInteger)columns {
  state_of<AreaState>(self).source_columns = columns;
}
- (NSUInteger)indexOffset {
  return state_of<TopKState>(self).index_offset;
}
- (void)setIndexOffset:(NSUInteger)offset {
  state_of<TopKState>(self).index_offset = offset;
}
- (NSUInteger)numberOfTopKValues {
  return state_of<TopKState>(self).k;
}
- (void)setNumberOfTopKValues:(NSUInteger)count {
  state_of<TopKState>(self).k = count;
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  inputMatrix:(MPSMatrix*)inputMatrix
            resultIndexMatrix:(MPSMatrix*)resultIndexMatrix
            resultValueMatrix:(MPSMatrix*)resultValueMatrix {
  const char* method =
      "-[MPSMatrixFindTopK encodeToCommandBuffer:inputMatrix:resultIndexMatrix:resultValueMatrix:]";
  auto& kernel = state_of<TopKState>(self);
  const emulator::Encoding guard(method, kernel);
  const MatrixState& input = emulator::matrix_of(method, "inputMatrix", inputMatrix);
  const MatrixState& indices = emulator::matrix_of(method, "resultIndexMatrix", resultIndexMatrix);
  const MatrixState& values = emulator::matrix_of(method, "resultValueMatrix", resultValueMatrix);
  if (kernel.k == 0 || kernel.k > emulator::kMaxTopK)
    emulator::refuse(
        method, emulator::text("numberOfTopKValues (%lu) must be less or equal to %lu and not 0.", kernel.k,
                               emulator::kMaxTopK));
  emulator::check_same_float(method, {&input, &values});
  emulator::check(indices.type == MPSDataTypeUInt32, method,
                  "resultIndexMatrix must have data type MPSDataTypeUInt32.");
  const NSUInteger rows =
      emulator::extent_of(method, "rows", kernel.source_rows, kernel.primary.x, input.rows);
  const NSUInteger columns =
      emulator::extent_of(method, "columns", kernel.source_columns, kernel.primary.y, input.columns);
  if (kernel.k > columns)
    emulator::refuse(
        method, emulator::text("the source has %lu columns: too few for numberOfTopKValues (%lu).", columns,
                               kernel.k));
  check_area(method, "source matrix", input, kernel.primary, rows, columns);
  check_area(method, "result index matrix", indices, kernel.result, rows, kernel.k);
  check_area(method, "result value matrix", values, kernel.result, rows, kernel.k);
  const NSUInteger batches = emulator::batches_of(method, kernel, {&input, &indices, &values});
  if (values.overlaps(input, rows, kernel.k, kernel.result, rows, columns, kernel.primary, kernel.batch_start,
                      batches) ||
      indices.overlaps(input, rows, kernel.k, kernel.result, rows, columns, kernel.primary,
                       kernel.batch_start, batches) ||
      indices.overlaps(values, rows, kernel.k, kernel.result, rows, kernel.k, kernel.result,
                       kernel.batch_start, batches))
    emulator::refuse(method, "a result matrix overlaps another matrix.");
  std::vector<std::array<MatrixView, 3>> work;
  for (NSUInteger i = kernel.batch_start; i < kernel.batch_start + batches; ++i)
    work.push_back(
        {input.view(i, kernel.primary), indices.view(i, kernel.result), values.view(i, kernel.result)});
  const NSUInteger k = kernel.k;
  const auto offset = static_cast<std::uint32_t>(kernel.index_offset);
  emulator::encode_mps(method, commandBuffer, "MPSMatrixFindTopK",
                       {input.buffer.get(), indices.buffer.get(), values.buffer.get()},
                       [rows, columns, k, offset, work = std::move(work)] {
                         for (const auto& [x, index, value] : work)
                           emulator::top_k(rows, columns, k, offset, x, index, value);
                       });
}

@end
