#pragma once

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "command.h"
#include "mps_math.h"

namespace emulator {

struct MatrixDescriptorState final : ObjectState {
  MatrixDescriptorState() : ObjectState("MPSMatrixDescriptor") {}
  NSUInteger rows = 0, columns = 0, matrices = 1, row_bytes = 0, matrix_bytes = 0;
  MPSDataType type = MPSDataTypeInvalid;
  void check_layout(const char* method) const;
};

struct VectorDescriptorState final : ObjectState {
  VectorDescriptorState() : ObjectState("MPSVectorDescriptor") {}
  NSUInteger length = 0, vectors = 1, vector_bytes = 0;
  MPSDataType type = MPSDataTypeInvalid;
  void check_layout(const char* method) const;
};

/// An MPSMatrix, or an MPSVector seen as a batch of matrices of one row.
struct MatrixState final : ObjectState {
  MatrixState(const char* name, id<MTLBuffer> data, NSUInteger at, const MatrixDescriptorState& layout);
  MatrixView view(NSUInteger batch, MTLOrigin origin) const;
  /// The first and one past the last byte that an area of rows by columns touches, from the start of the
  /// buffer.
  bool overlaps(const MatrixState& other, NSUInteger rows, NSUInteger columns, MTLOrigin origin,
                NSUInteger other_rows, NSUInteger other_columns, MTLOrigin other_origin,
                NSUInteger batch_start, NSUInteger batches) const;

  const Ref buffer;
  const NSUInteger offset, rows, columns, matrices, row_bytes, matrix_bytes;
  const MPSDataType type;
};

/// Bytes of one element; refuses a type that has no whole bytes.
NSUInteger element_bytes(const char* method, MPSDataType type);
Element element_of(MPSDataType type);
bool is_float(MPSDataType type);

struct KernelState : ObjectState {
  explicit KernelState(const char* name) : ObjectState(name) { State::get().count(&Counters::mps_kernels); }
  KernelState(const KernelState& other) : ObjectState(other), options(other.options) {
    State::get().count(&Counters::mps_kernels);
  }
  virtual KernelState* clone() const { return new KernelState(*this); }
  MPSKernelOptions options = MPSKernelOptionsNone;
  /// Set while a thread encodes: the properties of a kernel make it unfit for two at once.
  std::atomic<bool> encoding{false};
};

/// The area that a kernel works on: origins and batches.
struct AreaState : KernelState {
  using KernelState::KernelState;
  AreaState(const AreaState& other)
      : KernelState(other),
        primary(other.primary),
        secondary(other.secondary),
        result(other.result),
        batch_start(other.batch_start),
        batch_size(other.batch_size),
        source_rows(other.source_rows),
        source_columns(other.source_columns) {}
  KernelState* clone() const override { return new AreaState(*this); }

  MTLOrigin primary{0, 0, 0}, secondary{0, 0, 0}, result{0, 0, 0};
  NSUInteger batch_start = 0, batch_size = NSUIntegerMax;
  NSUInteger source_rows = NSUIntegerMax, source_columns = NSUIntegerMax;
};

struct MultiplicationState final : AreaState {
  explicit MultiplicationState(const char* name) : AreaState(name) {}
  MultiplicationState(const MultiplicationState& other) = default;
  KernelState* clone() const override { return new MultiplicationState(*this); }
  GemmShape shape;
};

struct TopKState final : AreaState {
  TopKState() : AreaState("MPSMatrixFindTopK") {}
  TopKState(const TopKState& other) = default;
  KernelState* clone() const override { return new TopKState(*this); }
  NSUInteger k = 0, index_offset = 0;
};

/// Holds a kernel for one encode; refuses if another thread has it.
class Encoding {
 public:
  Encoding(const char* method, KernelState& kernel);
  ~Encoding() { kernel_.encoding = false; }
  Encoding(const Encoding&) = delete;
  Encoding& operator=(const Encoding&) = delete;

 private:
  KernelState& kernel_;
};

/// The number of matrices of a batch to process.
NSUInteger batches_of(const char* method, const AreaState& kernel,
                      const std::vector<const MatrixState*>& matrices);

/// Refuses unless an area of rows by columns from `origin` fits the matrix. `what` names it in the text.
void check_area(const char* method, const char* what, const MatrixState& matrix, MTLOrigin origin,
                NSUInteger rows, NSUInteger columns);

/// The state of a matrix or vector argument; refuses nil.
const MatrixState& matrix_of(const char* method, const char* what, id matrix);

/// Checks a device argument of an initialiser.
void check_device(const char* method, id<MTLDevice> device);

}  // namespace emulator
