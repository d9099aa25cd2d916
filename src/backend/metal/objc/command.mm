#include "backend/metal/objc/command.h"

#include <candela/core/error.h>

#include "backend/metal/objc/cast.h"

namespace candela::metal::objc {

static_assert(MTLCommandBufferErrorOutOfMemory == kOutOfMemoryCode);

namespace {

MTLSize to_mtl(Size size) { return MTLSizeMake(size.x, size.y, size.z); }

Outcome outcome_of(id<MTLCommandBuffer> buffer) {
  Outcome outcome;
  if ([buffer status] != MTLCommandBufferStatusError) return outcome;
  NSError* error = [buffer error];
  outcome.failed = true;
  outcome.code = static_cast<long>([error code]);
  outcome.text = describe(error);
  return outcome;
}

}  // namespace

ComputeEncoder& ComputeEncoder::operator=(ComputeEncoder&& other) noexcept {
  if (this != &other) {
    end();
    Object::operator=(std::move(other));
  }
  return *this;
}

void ComputeEncoder::set_pipeline(const Pipeline& pipeline) {
  [native<id<MTLComputeCommandEncoder>>(*this)
      setComputePipelineState:native<id<MTLComputePipelineState>>(pipeline)];
}

void ComputeEncoder::set_buffer(void* buffer, std::size_t offset, std::size_t index) {
  [native<id<MTLComputeCommandEncoder>>(*this) setBuffer:static_cast<id<MTLBuffer>>(buffer)
                                                  offset:offset
                                                 atIndex:index];
}

void ComputeEncoder::set_bytes(const void* bytes, std::size_t length, std::size_t index) {
  [native<id<MTLComputeCommandEncoder>>(*this) setBytes:bytes length:length atIndex:index];
}

void ComputeEncoder::dispatch_groups(Size groups, Size threads_per_group) {
  [native<id<MTLComputeCommandEncoder>>(*this) dispatchThreadgroups:to_mtl(groups)
                                              threadsPerThreadgroup:to_mtl(threads_per_group)];
}

void ComputeEncoder::dispatch_threads(Size threads, Size threads_per_group) {
  [native<id<MTLComputeCommandEncoder>>(*this) dispatchThreads:to_mtl(threads)
                                         threadsPerThreadgroup:to_mtl(threads_per_group)];
}

void ComputeEncoder::end() {
  if (!*this) return;
  [native<id<MTLComputeCommandEncoder>>(*this) endEncoding];
  Object::operator=(Object());
}

ComputeEncoder CommandBuffer::compute_encoder() {
  const AutoreleasePool pool;
  return ComputeEncoder::share([native<id<MTLCommandBuffer>>(*this) computeCommandEncoder]);
}

void CommandBuffer::set_label(std::string_view label) {
  const AutoreleasePool pool;
  [native<id<MTLCommandBuffer>>(*this) setLabel:to_ns(label)];
}

void CommandBuffer::on_completed(std::function<void(const Outcome&)> handler) {
  [native<id<MTLCommandBuffer>>(*this) addCompletedHandler:^(id<MTLCommandBuffer> buffer) {
    const AutoreleasePool pool;
    handler(outcome_of(buffer));
  }];
}

void CommandBuffer::signal(const Event& event, std::uint64_t value) {
  [native<id<MTLCommandBuffer>>(*this) encodeSignalEvent:native<id<MTLSharedEvent>>(event) value:value];
}

void CommandBuffer::wait_for(const Event& event, std::uint64_t value) {
  [native<id<MTLCommandBuffer>>(*this) encodeWaitForEvent:native<id<MTLSharedEvent>>(event) value:value];
}

void CommandBuffer::commit() { [native<id<MTLCommandBuffer>>(*this) commit]; }

void CommandBuffer::wait() { [native<id<MTLCommandBuffer>>(*this) waitUntilCompleted]; }

Outcome CommandBuffer::outcome() const {
  const AutoreleasePool pool;
  return outcome_of(native<id<MTLCommandBuffer>>(*this));
}

CommandBuffer CommandQueue::new_command_buffer() {
  const AutoreleasePool pool;
  CommandBuffer buffer = CommandBuffer::share([native<id<MTLCommandQueue>>(*this) commandBuffer]);
  require<DeviceError>(static_cast<bool>(buffer),
                       "metal: the queue gave no command buffer; the device may be lost");
  return buffer;
}

}  // namespace candela::metal::objc
