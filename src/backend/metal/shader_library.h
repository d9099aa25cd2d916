#pragma once

#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "backend/metal/counters.h"
#include "backend/metal/objc/device.h"
#include "backend/metal/objc/library.h"

namespace candela::metal {

/// The shaders of one family as the build embedded them: a metallib, or source text where the `metal`
/// compiler was absent.
struct EmbeddedShaders {
  std::string_view family;
  const unsigned char* data;
  std::size_t bytes;
  bool compiled;
};

/// All families; written by cmake/metal_shaders.cmake. Throws DeviceError for an unknown one.
const EmbeddedShaders& embedded_shaders(std::string_view family);

/// The value of function constant `index` of a shader: a bool or a uint.
struct ShaderConstant {
  std::uint32_t index;
  bool is_bool;
  std::uint32_t value;
};
inline ShaderConstant shader_constant(std::uint32_t index, bool value) {
  return {index, true, value ? 1U : 0U};
}
inline ShaderConstant shader_constant(std::uint32_t index, std::uint32_t value) {
  return {index, false, value};
}

/// Native shaders, loaded by family and specialised by name when first used. Thread-safe.
class ShaderLibrary {
 public:
  ShaderLibrary(objc::Device device, AtomicCounters& counters)
      : device_(std::move(device)), counters_(counters) {}

  /// The pipeline of `function` of shaders/<family>.metal; lives as long as the library.
  const objc::Pipeline& pipeline(std::string_view family, const std::string& function,
                                 std::span<const ShaderConstant> constants = {});

 private:
  objc::Device device_;
  AtomicCounters& counters_;
  std::mutex mutex_;
  std::map<std::string, objc::Library, std::less<>> libraries_;
  std::map<std::string, objc::Pipeline, std::less<>> pipelines_;
};

}  // namespace candela::metal
