#include "backend/metal/shader_library.h"

#include <fmt/format.h>

namespace candela::metal {

const objc::Pipeline& ShaderLibrary::pipeline(std::string_view family, const std::string& function,
                                              std::span<const ShaderConstant> constants) {
  const std::lock_guard lock(mutex_);
  std::string key = function;
  for (const ShaderConstant& constant : constants)
    key += fmt::format(" {}={}", constant.index, constant.value);
  if (const auto found = pipelines_.find(key); found != pipelines_.end()) {
    counters_.pipeline_hits.fetch_add(1, std::memory_order_relaxed);
    return found->second;
  }
  auto library = libraries_.find(family);
  if (library == libraries_.end()) {
    const EmbeddedShaders& shaders = embedded_shaders(family);
    objc::Library loaded =
        shaders.compiled
            ? device_.new_library_from_data(shaders.data, shaders.bytes)
            : device_.new_library_from_source({reinterpret_cast<const char*>(shaders.data), shaders.bytes});
    library = libraries_.emplace(std::string(family), std::move(loaded)).first;
  }
  objc::FunctionConstants values;
  for (const ShaderConstant& constant : constants) {
    if (constant.is_bool) {
      values.set(constant.index, constant.value != 0);
    } else {
      values.set(constant.index, constant.value);
    }
  }
  objc::Pipeline made = device_.new_pipeline(library->second, function, values);
  counters_.pipelines_made.fetch_add(1, std::memory_order_relaxed);
  return pipelines_.emplace(std::move(key), std::move(made)).first->second;
}

}  // namespace candela::metal
