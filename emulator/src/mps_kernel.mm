// MPSKernel and what its subclasses share.

#include "mps.h"

namespace emulator {

Encoding::Encoding(const char* method, KernelState& kernel) : kernel_(kernel) {
  if (kernel.encoding.exchange(true))
    refuse(method, "two threads encode with one kernel object; its properties are not safe for that");
}

NSUInteger batches_of(const char* method, const AreaState& kernel,
                      const std::vector<const MatrixState*>& matrices) {
  NSUInteger least = NSUIntegerMax;
  for (const MatrixState* matrix : matrices) least = std::min(least, matrix->matrices);
  if (kernel.batch_size == NSUIntegerMax) {
    for (const MatrixState* matrix : matrices)
      if (matrix->matrices != least)
        refuse(
            method,
            text("the arguments hold %lu and %lu matrices: they must be as many, or batchSize must be set.",
                 least, matrix->matrices));
    if (kernel.batch_start >= least)
      refuse(method,
             text("batchStart (%lu) must be < the number of matrices (%lu).", kernel.batch_start, least));
    return least - kernel.batch_start;
  }
  check(kernel.batch_size > 0, method, "batchSize must be > 0.");
  if (kernel.batch_start > least || kernel.batch_size > least - kernel.batch_start)
    refuse(method, text("batchStart (%lu) + batchSize (%lu) must be <= the number of matrices (%lu).",
                        kernel.batch_start, kernel.batch_size, least));
  return kernel.batch_size;
}

void check_area(const char* method, const char* what, const MatrixState& matrix, MTLOrigin origin,
                NSUInteger rows, NSUInteger columns) {
  if (origin.z != 0) refuse(method, text("the origin of the %s has z (%lu); it must be 0.", what, origin.z));
  if (origin.x > matrix.rows || rows > matrix.rows - origin.x)
    refuse(method, text("Number of requested rows in %s exceeds %s size. (%lu from row %lu of %lu)", what,
                        what, rows, origin.x, matrix.rows));
  if (origin.y > matrix.columns || columns > matrix.columns - origin.y)
    refuse(method, text("Number of requested columns in %s exceeds %s size. (%lu from column %lu of %lu)",
                        what, what, columns, origin.y, matrix.columns));
}

void check_device(const char* method, id<MTLDevice> device) {
  check(device != nil, method, "device may not be nil.");
  check(MPSSupportsMTLDevice(device), method, "the device is not supported.");
}

}  // namespace emulator

using emulator::AreaState;
using emulator::KernelState;
using emulator::state_of;

BOOL MPSSupportsMTLDevice(id<MTLDevice> device) {
  return device != nil && [static_cast<id>(device) isKindOfClass:[EmulatorDevice class]];
}

size_t MPSSizeofMPSDataType(MPSDataType type) {
  return emulator::element_bytes("MPSSizeofMPSDataType", type);
}

@implementation MPSKernel
@dynamic label;

- (instancetype)init {
  emulator::discard(self);
  emulator::refuse("-[MPSKernel init]", "use initWithDevice:");
}
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  return [super initWithState:emulator::guarded(self, [&]() -> emulator::ObjectState* {
                  emulator::check_device("[MPSKernel initWithDevice:]", device);
                  return new KernelState("MPSKernel");
                })];
}
- (id)copyWithZone:(NSZone*)zone {
  return [self copyWithZone:zone device:nil];
}
- (instancetype)copyWithZone:(NSZone*)zone device:(id<MTLDevice>)device {
  (void)zone;
  if (device) emulator::check_device("[MPSKernel copyWithZone:device:]", device);
  return [[[self class] alloc] initWithState:state_of<KernelState>(self).clone()];
}
- (id<MTLDevice>)device {
  return emulator::device();
}
- (MPSKernelOptions)options {
  return state_of<KernelState>(self).options;
}
- (void)setOptions:(MPSKernelOptions)options {
  emulator::check((options & MPSKernelOptionsSkipAPIValidation) == 0, "[MPSKernel setOptions:]",
                  "the stand-in never skips validation");
  state_of<KernelState>(self).options = options;
}

@end

@implementation MPSMatrixUnaryKernel

- (instancetype)initWithDevice:(id<MTLDevice>)device {
  return [super initWithState:emulator::guarded(self, [&]() -> emulator::ObjectState* {
                  emulator::check_device("[MPSMatrixUnaryKernel initWithDevice:]", device);
                  return new AreaState(class_getName([self class]));
                })];
}
- (MTLOrigin)sourceMatrixOrigin {
  return state_of<AreaState>(self).primary;
}
- (void)setSourceMatrixOrigin:(MTLOrigin)origin {
  state_of<AreaState>(self).primary = origin;
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

@end

@implementation MPSMatrixBinaryKernel

- (instancetype)initWithDevice:(id<MTLDevice>)device {
  return [super initWithState:emulator::guarded(self, [&]() -> emulator::ObjectState* {
                  emulator::check_device("[MPSMatrixBinaryKernel initWithDevice:]", device);
                  return new AreaState(class_getName([self class]));
                })];
}
- (MTLOrigin)primarySourceMatrixOrigin {
  return state_of<AreaState>(self).primary;
}
- (void)setPrimarySourceMatrixOrigin:(MTLOrigin)origin {
  state_of<AreaState>(self).primary = origin;
}
- (MTLOrigin)secondarySourceMatrixOrigin {
  return state_of<AreaState>(self).secondary;
}
- (void)setSecondarySourceMatrixOrigin:(MTLOrigin)origin {
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

@end
