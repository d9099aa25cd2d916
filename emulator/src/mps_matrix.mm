// Descriptors, matrices and vectors.

#include "mps.h"

namespace emulator {
namespace {

constexpr NSUInteger kRowAlignment = 16;  // of the recommended strides
constexpr NSUInteger kTooLarge = NSUInteger{1} << 48;

/// Bytes from the first to one past the last element: (matrices-1)*matrixBytes + (rows-1)*rowBytes +
/// columns*size.
NSUInteger extent(const MatrixDescriptorState& layout, NSUInteger size) {
  return (layout.matrices - 1) * layout.matrix_bytes + (layout.rows - 1) * layout.row_bytes +
         layout.columns * size;
}

}  // namespace

NSUInteger element_bytes(const char* method, MPSDataType type) {
  switch (static_cast<std::uint32_t>(type)) {
    case MPSDataTypeFloat32:
    case MPSDataTypeInt32:
    case MPSDataTypeUInt32:
      return 4;
    case MPSDataTypeFloat16:
    case MPSDataTypeBFloat16:
    case MPSDataTypeInt16:
    case MPSDataTypeUInt16:
      return 2;
    case MPSDataTypeInt8:
    case MPSDataTypeUInt8:
    case MPSDataTypeBool:
    case MPSDataTypeUnorm8:
      return 1;
    case MPSDataTypeInt64:
    case MPSDataTypeUInt64:
      return 8;
    default:
      refuse(method, text("dataType 0x%x is not valid for a matrix.", static_cast<unsigned>(type)));
  }
}

Element element_of(MPSDataType type) {
  switch (static_cast<std::uint32_t>(type)) {
    case MPSDataTypeFloat16:
      return Element::Float16;
    case MPSDataTypeInt8:
      return Element::Int8;
    case MPSDataTypeInt16:
      return Element::Int16;
    case MPSDataTypeUInt32:
      return Element::Uint32;
    default:
      return Element::Float32;
  }
}

bool is_float(MPSDataType type) { return type == MPSDataTypeFloat32 || type == MPSDataTypeFloat16; }

void MatrixDescriptorState::check_layout(const char* method) const {
  const NSUInteger size = element_bytes(method, type);
  check(rows > 0 && columns > 0 && matrices > 0, method, "rows, columns and matrices must be > 0.");
  check(rows < kTooLarge && columns < kTooLarge && matrices < kTooLarge && row_bytes < kTooLarge &&
            matrix_bytes < kTooLarge,
        method, "rows, columns, matrices and strides must be below 2^48.");
  if (row_bytes % size != 0)
    refuse(method, text("rowBytes (%lu) must be a multiple of the element size (%lu).", row_bytes, size));
  if (row_bytes < columns * size)
    refuse(method, text("rowBytes (%lu) must be at least columns (%lu) times the element size (%lu).",
                        row_bytes, columns, size));
  if (matrices == 1 && matrix_bytes == 0) return;
  if (matrix_bytes % row_bytes != 0)
    refuse(method, text("matrixBytes (%lu) must be a multiple of rowBytes (%lu).", matrix_bytes, row_bytes));
  if (matrix_bytes / row_bytes < rows)
    refuse(method, text("matrixBytes (%lu) must be at least rows (%lu) times rowBytes (%lu).", matrix_bytes,
                        rows, row_bytes));
}

void VectorDescriptorState::check_layout(const char* method) const {
  const NSUInteger size = element_bytes(method, type);
  check(length > 0 && vectors > 0, method, "length and vectors must be > 0.");
  check(length < kTooLarge && vectors < kTooLarge && vector_bytes < kTooLarge, method,
        "length, vectors and vectorBytes must be below 2^48.");
  if (vector_bytes % size != 0)
    refuse(method,
           text("vectorBytes (%lu) must be a multiple of the element size (%lu).", vector_bytes, size));
  if (vector_bytes < length * size)
    refuse(method, text("vectorBytes (%lu) must be at least length (%lu) times the element size (%lu).",
                        vector_bytes, length, size));
}

namespace {

const BufferState& checked_buffer(const char* name, id<MTLBuffer> buffer, NSUInteger offset,
                                  const MatrixDescriptorState& layout) {
  const std::string method = text("[%s initWithBuffer:offset:descriptor:]", name);
  check(buffer != nil, method.c_str(), "buffer may not be nil.");
  check([static_cast<id>(buffer) isKindOfClass:[EmulatorBuffer class]], method.c_str(),
        "buffer is of another device.");
  const BufferState& state = buffer_state(buffer);
  const NSUInteger size = element_bytes(method.c_str(), layout.type);
  if (offset % size != 0)
    refuse(method.c_str(), text("offset (%lu) must be a multiple of the element size (%lu).", offset, size));
  const unsigned __int128 needed = static_cast<unsigned __int128>(layout.matrices - 1) * layout.matrix_bytes +
                                   static_cast<unsigned __int128>(layout.rows - 1) * layout.row_bytes +
                                   layout.columns * size;
  if (offset > state.length || needed > state.length - offset)
    refuse(method.c_str(),
           text("buffer is too small: its length is %lu, the descriptor needs %llu bytes from offset %lu.",
                state.length, static_cast<unsigned long long>(needed), offset));
  return state;
}

}  // namespace

MatrixState::MatrixState(const char* name, id<MTLBuffer> data, NSUInteger at,
                         const MatrixDescriptorState& layout)
    : ObjectState((checked_buffer(name, data, at, layout), name)),
      buffer(data),
      offset(at),
      rows(layout.rows),
      columns(layout.columns),
      matrices(layout.matrices),
      row_bytes(layout.row_bytes),
      matrix_bytes(layout.matrix_bytes),
      type(layout.type) {
  State::get().count(&Counters::mps_matrices);
}

MatrixView MatrixState::view(NSUInteger batch, MTLOrigin origin) const {
  const NSUInteger size = element_bytes("MPSMatrix", type);
  return {buffer_state(buffer.get()).data + offset + batch * matrix_bytes + origin.x * row_bytes +
              origin.y * size,
          row_bytes, element_of(type)};
}

bool MatrixState::overlaps(const MatrixState& other, NSUInteger area_rows, NSUInteger area_columns,
                           MTLOrigin origin, NSUInteger other_rows, NSUInteger other_columns,
                           MTLOrigin other_origin, NSUInteger batch_start, NSUInteger batches) const {
  const NSUInteger bytes = area_columns * element_bytes("MPSMatrix", type);
  const NSUInteger other_bytes = other_columns * element_bytes("MPSMatrix", other.type);
  const std::byte* end = view(batch_start + batches - 1, origin).row(area_rows - 1) + bytes;
  const std::byte* other_end =
      other.view(batch_start + batches - 1, other_origin).row(other_rows - 1) + other_bytes;
  if (end <= other.view(batch_start, other_origin).data || other_end <= view(batch_start, origin).data)
    return false;
  // The spans cross, so compare row by row: both lists ascend, as rows do not overlap within one matrix.
  NSUInteger i = 0, j = 0;
  while (i < area_rows * batches && j < other_rows * batches) {
    const std::byte* mine = view(batch_start + i / area_rows, origin).row(i % area_rows);
    const std::byte* theirs = other.view(batch_start + j / other_rows, other_origin).row(j % other_rows);
    if (mine + bytes <= theirs) {
      ++i;
    } else if (theirs + other_bytes <= mine) {
      ++j;
    } else {
      return true;
    }
  }
  return false;
}

const MatrixState& matrix_of(const char* method, const char* what, id matrix) {
  if (matrix == nil) refuse(method, text("%s may not be nil.", what));
  return state_of<MatrixState>(matrix);
}

}  // namespace emulator

using emulator::check;
using emulator::guarded;
using emulator::MatrixDescriptorState;
using emulator::MatrixState;
using emulator::ObjectState;
using emulator::state_of;
using emulator::VectorDescriptorState;

@implementation MPSMatrixDescriptor

+ (instancetype)matrixDescriptorWithRows:(NSUInteger)rows
                                 columns:(NSUInteger)columns
                                matrices:(NSUInteger)matrices
                                rowBytes:(NSUInteger)rowBytes
                             matrixBytes:(NSUInteger)matrixBytes
                                dataType:(MPSDataType)dataType {
  auto state = std::make_unique<MatrixDescriptorState>();
  state->rows = rows;
  state->columns = columns;
  state->matrices = matrices;
  state->row_bytes = rowBytes;
  state->matrix_bytes = matrixBytes;
  state->type = dataType;
  state->check_layout(
      "+[MPSMatrixDescriptor matrixDescriptorWithRows:columns:matrices:rowBytes:matrixBytes:dataType:]");
  return [[[self alloc] initWithState:state.release()] autorelease];
}
+ (instancetype)matrixDescriptorWithRows:(NSUInteger)rows
                                 columns:(NSUInteger)columns
                                rowBytes:(NSUInteger)rowBytes
                                dataType:(MPSDataType)dataType {
  check(rows < emulator::kTooLarge && rowBytes < emulator::kTooLarge / (rows + 1),
        "+[MPSMatrixDescriptor matrixDescriptorWithRows:columns:rowBytes:dataType:]",
        "rows times rowBytes must be below 2^48.");
  return [self matrixDescriptorWithRows:rows
                                columns:columns
                               matrices:1
                               rowBytes:rowBytes
                            matrixBytes:rows * rowBytes
                               dataType:dataType];
}
+ (instancetype)matrixDescriptorWithDimensions:(NSUInteger)rows
                                       columns:(NSUInteger)columns
                                      rowBytes:(NSUInteger)rowBytes
                                      dataType:(MPSDataType)dataType {
  return [self matrixDescriptorWithRows:rows columns:columns rowBytes:rowBytes dataType:dataType];
}
+ (size_t)rowBytesForColumns:(NSUInteger)columns dataType:(MPSDataType)dataType {
  const NSUInteger bytes =
      columns * emulator::element_bytes("+[MPSMatrixDescriptor rowBytesForColumns:dataType:]", dataType);
  return (bytes + emulator::kRowAlignment - 1) / emulator::kRowAlignment * emulator::kRowAlignment;
}
+ (size_t)rowBytesFromColumns:(NSUInteger)columns dataType:(MPSDataType)dataType {
  return [self rowBytesForColumns:columns dataType:dataType];
}
- (instancetype)init {
  emulator::discard(self);
  emulator::refuse("-[MPSMatrixDescriptor init]", "use matrixDescriptorWithRows:columns:rowBytes:dataType:");
}
- (NSUInteger)rows {
  return state_of<MatrixDescriptorState>(self).rows;
}
- (void)setRows:(NSUInteger)rows {
  state_of<MatrixDescriptorState>(self).rows = rows;
}
- (NSUInteger)columns {
  return state_of<MatrixDescriptorState>(self).columns;
}
- (void)setColumns:(NSUInteger)columns {
  state_of<MatrixDescriptorState>(self).columns = columns;
}
- (NSUInteger)matrices {
  return state_of<MatrixDescriptorState>(self).matrices;
}
- (MPSDataType)dataType {
  return state_of<MatrixDescriptorState>(self).type;
}
- (void)setDataType:(MPSDataType)type {
  state_of<MatrixDescriptorState>(self).type = type;
}
- (NSUInteger)rowBytes {
  return state_of<MatrixDescriptorState>(self).row_bytes;
}
- (void)setRowBytes:(NSUInteger)rowBytes {
  state_of<MatrixDescriptorState>(self).row_bytes = rowBytes;
}
- (NSUInteger)matrixBytes {
  return state_of<MatrixDescriptorState>(self).matrix_bytes;
}

@end

@implementation MPSVectorDescriptor

+ (instancetype)vectorDescriptorWithLength:(NSUInteger)length
                                   vectors:(NSUInteger)vectors
                               vectorBytes:(NSUInteger)vectorBytes
                                  dataType:(MPSDataType)dataType {
  auto state = std::make_unique<VectorDescriptorState>();
  state->length = length;
  state->vectors = vectors;
  state->vector_bytes = vectorBytes;
  state->type = dataType;
  state->check_layout("+[MPSVectorDescriptor vectorDescriptorWithLength:vectors:vectorBytes:dataType:]");
  return [[[self alloc] initWithState:state.release()] autorelease];
}
+ (instancetype)vectorDescriptorWithLength:(NSUInteger)length dataType:(MPSDataType)dataType {
  const char* method = "+[MPSVectorDescriptor vectorDescriptorWithLength:dataType:]";
  check(length < emulator::kTooLarge, method, "length must be below 2^48.");
  return [self vectorDescriptorWithLength:length
                                  vectors:1
                              vectorBytes:length * emulator::element_bytes(method, dataType)
                                 dataType:dataType];
}
+ (size_t)vectorBytesForLength:(NSUInteger)length dataType:(MPSDataType)dataType {
  return [MPSMatrixDescriptor rowBytesForColumns:length dataType:dataType];
}
- (instancetype)init {
  emulator::discard(self);
  emulator::refuse("-[MPSVectorDescriptor init]", "use vectorDescriptorWithLength:dataType:");
}
- (NSUInteger)length {
  return state_of<VectorDescriptorState>(self).length;
}
- (void)setLength:(NSUInteger)length {
  state_of<VectorDescriptorState>(self).length = length;
}
- (NSUInteger)vectors {
  return state_of<VectorDescriptorState>(self).vectors;
}
- (MPSDataType)dataType {
  return state_of<VectorDescriptorState>(self).type;
}
- (void)setDataType:(MPSDataType)type {
  state_of<VectorDescriptorState>(self).type = type;
}
- (NSUInteger)vectorBytes {
  return state_of<VectorDescriptorState>(self).vector_bytes;
}

@end

@implementation MPSMatrix

- (instancetype)init {
  emulator::discard(self);
  emulator::refuse("-[MPSMatrix init]", "use initWithBuffer:descriptor:");
}
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSMatrixDescriptor*)descriptor {
  return [super initWithState:guarded(self, [&]() -> ObjectState* {
                  const char* method = "[MPSMatrix initWithBuffer:offset:descriptor:]";
                  check(descriptor != nil, method, "descriptor may not be nil.");
                  const auto& layout = state_of<MatrixDescriptorState>(descriptor);
                  layout.check_layout(method);  // its properties may have changed since it was made
                  return new MatrixState("MPSMatrix", buffer, offset, layout);
                })];
}
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer descriptor:(MPSMatrixDescriptor*)descriptor {
  return [self initWithBuffer:buffer offset:0 descriptor:descriptor];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSMatrixDescriptor*)descriptor {
  return [super
      initWithState:guarded(self, [&]() -> ObjectState* {
        const char* method = "[MPSMatrix initWithDevice:descriptor:]";
        check(device != nil && descriptor != nil, method, "device and descriptor may not be nil.");
        const auto& layout = state_of<MatrixDescriptorState>(descriptor);
        layout.check_layout(method);
        const NSUInteger bytes = emulator::extent(layout, emulator::element_bytes(method, layout.type));
        id<MTLBuffer> buffer = emulator::make_buffer(method, bytes, MTLResourceStorageModePrivate, nullptr);
        check(buffer != nil, method, "the buffer could not be allocated.");
        const emulator::Ref owner(buffer);
        [buffer release];
        return new MatrixState("MPSMatrix", buffer, 0, layout);
      })];
}
- (id<MTLDevice>)device {
  return emulator::device();
}
- (NSUInteger)rows {
  return state_of<MatrixState>(self).rows;
}
- (NSUInteger)columns {
  return state_of<MatrixState>(self).columns;
}
- (NSUInteger)matrices {
  return state_of<MatrixState>(self).matrices;
}
- (MPSDataType)dataType {
  return state_of<MatrixState>(self).type;
}
- (NSUInteger)rowBytes {
  return state_of<MatrixState>(self).row_bytes;
}
- (NSUInteger)matrixBytes {
  return state_of<MatrixState>(self).matrix_bytes;
}
- (NSUInteger)offset {
  return state_of<MatrixState>(self).offset;
}
- (id<MTLBuffer>)data {
  return state_of<MatrixState>(self).buffer.get();
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)commandBuffer {
  const char* method = "[MPSMatrix synchronizeOnCommandBuffer:]";
  check(commandBuffer != nil, method, "commandBuffer may not be nil.");
  emulator::command_buffer_state(commandBuffer).check_encodable(method);  // shared memory: nothing to copy
}
- (NSUInteger)resourceSize {
  return [self.data allocatedSize];
}

@end

@implementation MPSVector

- (instancetype)init {
  emulator::discard(self);
  emulator::refuse("-[MPSVector init]", "use initWithBuffer:descriptor:");
}
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSVectorDescriptor*)descriptor {
  return [super initWithState:guarded(self, [&]() -> ObjectState* {
                  const char* method = "[MPSVector initWithBuffer:offset:descriptor:]";
                  check(descriptor != nil, method, "descriptor may not be nil.");
                  const auto& vector = state_of<VectorDescriptorState>(descriptor);
                  vector.check_layout(method);
                  MatrixDescriptorState layout;
                  layout.rows = 1;
                  layout.columns = vector.length;
                  layout.matrices = vector.vectors;
                  layout.row_bytes = layout.matrix_bytes = vector.vector_bytes;
                  layout.type = vector.type;
                  return new MatrixState("MPSVector", buffer, offset, layout);
                })];
}
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer descriptor:(MPSVectorDescriptor*)descriptor {
  return [self initWithBuffer:buffer offset:0 descriptor:descriptor];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSVectorDescriptor*)descriptor {
  const char* method = "[MPSVector initWithDevice:descriptor:]";
  id<MTLBuffer> buffer = nil;
  try {
    check(device != nil && descriptor != nil, method, "device and descriptor may not be nil.");
    state_of<VectorDescriptorState>(descriptor).check_layout(method);
    buffer = emulator::make_buffer(method, descriptor.vectors * descriptor.vectorBytes,
                                   MTLResourceStorageModePrivate, nullptr);
    check(buffer != nil, method, "the buffer could not be allocated.");
  } catch (...) {
    emulator::discard(self);
    throw;
  }
  const emulator::Ref owner(buffer);
  [buffer release];
  return [self initWithBuffer:buffer offset:0 descriptor:descriptor];
}
- (id<MTLDevice>)device {
  return emulator::device();
}
- (NSUInteger)length {
  return state_of<MatrixState>(self).columns;
}
- (NSUInteger)vectors {
  return state_of<MatrixState>(self).matrices;
}
- (MPSDataType)dataType {
  return state_of<MatrixState>(self).type;
}
- (NSUInteger)vectorBytes {
  return state_of<MatrixState>(self).matrix_bytes;
}
- (NSUInteger)offset {
  return state_of<MatrixState>(self).offset;
}
- (id<MTLBuffer>)data {
  return state_of<MatrixState>(self).buffer.get();
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)commandBuffer {
  const char* method = "[MPSVector synchronizeOnCommandBuffer:]";
  check(commandBuffer != nil, method, "commandBuffer may not be nil.");
  emulator::command_buffer_state(commandBuffer).check_encodable(method);
}
- (NSUInteger)resourceSize {
  return [self.data allocatedSize];
}

@end
