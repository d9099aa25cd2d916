#include "backend/metal/objc/mps.h"

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <candela/core/error.h>

#include "backend/metal/objc/cast.h"
#include "backend/metal/objc/data_type.h"

namespace candela::metal::objc {
namespace {

MPSDataType data_type(const MatrixShape& shape) {
  return shape.unsigned_index ? MPSDataTypeUInt32 : static_cast<MPSDataType>(to_mps_data_type(shape.dtype));
}

MPSMatrixDescriptor* new_descriptor(const MatrixShape& shape) {
  if (shape.matrices == 1) {
    return [[MPSMatrixDescriptor matrixDescriptorWithRows:shape.rows
                                                  columns:shape.columns
                                                 rowBytes:shape.row_bytes
                                                 dataType:data_type(shape)] retain];
  }
  return [[MPSMatrixDescriptor matrixDescriptorWithRows:shape.rows
                                                columns:shape.columns
                                               matrices:shape.matrices
                                               rowBytes:shape.row_bytes
                                            matrixBytes:shape.matrix_bytes
                                               dataType:data_type(shape)] retain];
}

/// MPS kernels return nil where the device or the sizes do not suit them.
void check_made(const Object& object, const char* kernel) {
  require<DeviceError>(static_cast<bool>(object), "metal: the system gave no {} for these sizes", kernel);
}

id<MTLCommandBuffer> native_buffer(const CommandBuffer& buffer) {
  return native<id<MTLCommandBuffer>>(buffer);
}

}  // namespace

MatrixDescriptor::MatrixDescriptor(const MatrixShape& shape)
    : Object(new_descriptor(shape), Ownership::Adopt) {}

std::size_t MatrixDescriptor::recommended_row_bytes(std::size_t columns, DType dtype) {
  return [MPSMatrixDescriptor rowBytesForColumns:columns
                                        dataType:static_cast<MPSDataType>(to_mps_data_type(dtype))];
}

Matrix::Matrix(void* buffer, std::size_t offset, const MatrixShape& shape)
    : Object([[MPSMatrix alloc] initWithBuffer:static_cast<id<MTLBuffer>>(buffer)
                                        offset:offset
                                    descriptor:native<MPSMatrixDescriptor*>(MatrixDescriptor(shape))],
             Ownership::Adopt) {
  check_made(*this, "MPSMatrix");
}

Vector::Vector(void* buffer, std::size_t offset, std::size_t length, DType dtype)
    : Object([[MPSVector alloc] initWithBuffer:static_cast<id<MTLBuffer>>(buffer)
                                        offset:offset
                                    descriptor:[MPSVectorDescriptor
                                                   vectorDescriptorWithLength:length
                                                                     dataType:static_cast<MPSDataType>(
                                                                                  to_mps_data_type(dtype))]],
             Ownership::Adopt) {
  check_made(*this, "MPSVector");
}

MatrixMultiplication::MatrixMultiplication(const Device& device, const ProductShape& shape)
    : Object([[MPSMatrixMultiplication alloc] initWithDevice:native<id<MTLDevice>>(device)
                                               transposeLeft:shape.transpose_left
                                              transposeRight:shape.transpose_right
                                                  resultRows:shape.rows
                                               resultColumns:shape.columns
                                             interiorColumns:shape.interior
                                                       alpha:shape.alpha
                                                        beta:shape.beta],
             Ownership::Adopt) {
  check_made(*this, "MPSMatrixMultiplication");
}

void MatrixMultiplication::encode(const CommandBuffer& buffer, const Matrix& left, const Matrix& right,
                                  const Matrix& result, std::size_t batch) {
  auto* kernel = native<MPSMatrixMultiplication*>(*this);
  [kernel setBatchStart:0];
  [kernel setBatchSize:batch];
  [kernel encodeToCommandBuffer:native_buffer(buffer)
                     leftMatrix:native<MPSMatrix*>(left)
                    rightMatrix:native<MPSMatrix*>(right)
                   resultMatrix:native<MPSMatrix*>(result)];
}

MatrixVectorMultiplication::MatrixVectorMultiplication(const Device& device, const VectorProductShape& shape)
    : Object([[MPSMatrixVectorMultiplication alloc] initWithDevice:native<id<MTLDevice>>(device)
                                                         transpose:shape.transpose
                                                              rows:shape.rows
                                                           columns:shape.columns
                                                             alpha:shape.alpha
                                                              beta:shape.beta],
             Ownership::Adopt) {
  check_made(*this, "MPSMatrixVectorMultiplication");
}

void MatrixVectorMultiplication::encode(const CommandBuffer& buffer, const Matrix& matrix, const Vector& x,
                                        const Vector& y) {
  [native<MPSMatrixVectorMultiplication*>(*this) encodeToCommandBuffer:native_buffer(buffer)
                                                           inputMatrix:native<MPSMatrix*>(matrix)
                                                           inputVector:native<MPSVector*>(x)
                                                          resultVector:native<MPSVector*>(y)];
}

MatrixSoftmax::MatrixSoftmax(const Device& device, bool log)
    : Object([(log ? [MPSMatrixLogSoftMax alloc]
                   : [MPSMatrixSoftMax alloc]) initWithDevice:native<id<MTLDevice>>(device)],
             Ownership::Adopt) {
  check_made(*this, "MPSMatrixSoftMax");
}

void MatrixSoftmax::encode(const CommandBuffer& buffer, const Matrix& x, const Matrix& result) {
  [native<MPSMatrixSoftMax*>(*this) encodeToCommandBuffer:native_buffer(buffer)
                                              inputMatrix:native<MPSMatrix*>(x)
                                             resultMatrix:native<MPSMatrix*>(result)];
}

MatrixSoftmaxGradient::MatrixSoftmaxGradient(const Device& device)
    : Object([[MPSMatrixSoftMaxGradient alloc] initWithDevice:native<id<MTLDevice>>(device)],
             Ownership::Adopt) {
  check_made(*this, "MPSMatrixSoftMaxGradient");
}

void MatrixSoftmaxGradient::encode(const CommandBuffer& buffer, const Matrix& gradient, const Matrix& forward,
                                   const Matrix& result) {
  [native<MPSMatrixSoftMaxGradient*>(*this) encodeToCommandBuffer:native_buffer(buffer)
                                                   gradientMatrix:native<MPSMatrix*>(gradient)
                                              forwardOutputMatrix:native<MPSMatrix*>(forward)
                                                     resultMatrix:native<MPSMatrix*>(result)];
}

MatrixFindTopk::MatrixFindTopk(const Device& device, std::size_t k)
    : Object([[MPSMatrixFindTopK alloc] initWithDevice:native<id<MTLDevice>>(device) numberOfTopKValues:k],
             Ownership::Adopt) {
  check_made(*this, "MPSMatrixFindTopK");
}

void MatrixFindTopk::encode(const CommandBuffer& buffer, const Matrix& x, const Matrix& indices,
                            const Matrix& values) {
  [native<MPSMatrixFindTopK*>(*this) encodeToCommandBuffer:native_buffer(buffer)
                                               inputMatrix:native<MPSMatrix*>(x)
                                         resultIndexMatrix:native<MPSMatrix*>(indices)
                                         resultValueMatrix:native<MPSMatrix*>(values)];
}

}  // namespace candela::metal::objc
