#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/metal/objc/object.h"

namespace candela::metal::objc {

/// MTLLibrary: the shaders of one file.
class Library : public Object {
 public:
  Library() = default;
  static Library adopt(void* owned) { return Library(owned); }
  std::vector<std::string> function_names() const;

 private:
  explicit Library(void* owned) : Object(owned, Ownership::Adopt) {}
};

/// MTLFunctionConstantValues: what a shader is specialised with.
class FunctionConstants : public Object {
 public:
  FunctionConstants();
  void set(std::uint32_t index, bool value);
  void set(std::uint32_t index, std::uint32_t value);
};

/// MTLComputePipelineState: a shader ready to run.
class Pipeline : public Object {
 public:
  Pipeline() = default;
  static Pipeline adopt(void* owned) { return Pipeline(owned); }
  /// At most 1024, less for shaders that need many registers.
  std::size_t max_threads() const;
  /// 32 on every Apple GPU.
  std::size_t simd_width() const;

 private:
  explicit Pipeline(void* owned) : Object(owned, Ownership::Adopt) {}
};

}  // namespace candela::metal::objc
