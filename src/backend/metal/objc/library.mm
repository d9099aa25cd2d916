#include "backend/metal/objc/library.h"

#include "backend/metal/objc/cast.h"

namespace candela::metal::objc {

std::vector<std::string> Library::function_names() const {
  const AutoreleasePool pool;
  std::vector<std::string> names;
  for (NSString* name in [native<id<MTLLibrary>>(*this) functionNames]) names.push_back(from_ns(name));
  return names;
}

FunctionConstants::FunctionConstants() : Object([[MTLFunctionConstantValues alloc] init], Ownership::Adopt) {}

void FunctionConstants::set(std::uint32_t index, bool value) {
  [native<MTLFunctionConstantValues*>(*this) setConstantValue:&value type:MTLDataTypeBool atIndex:index];
}

void FunctionConstants::set(std::uint32_t index, std::uint32_t value) {
  [native<MTLFunctionConstantValues*>(*this) setConstantValue:&value type:MTLDataTypeUInt atIndex:index];
}

std::size_t Pipeline::max_threads() const {
  return [native<id<MTLComputePipelineState>>(*this) maxTotalThreadsPerThreadgroup];
}
std::size_t Pipeline::simd_width() const {
  return [native<id<MTLComputePipelineState>>(*this) threadExecutionWidth];
}
}  // namespace candela::metal::objc
