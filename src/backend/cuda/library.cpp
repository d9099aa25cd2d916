#include "backend/cuda/library.h"

#include <cstdlib>
#include <dlfcn.h>
#include <vector>

#include <candela/core/error.h>

namespace candela::cuda {

Library::Library(const std::string& name) : name_(name) {
  std::vector<std::string> paths = {name};
  if (const char* home = std::getenv("CUDA_HOME")) paths.push_back(std::string(home) + "/lib64/" + name);
  paths.push_back("/usr/local/cuda/lib64/" + name);
  for (const std::string& path : paths) {
    handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    if (problem_.empty()) problem_ = ::dlerror();
  }
}

void* Library::find(const char* name) const {
  void* symbol = ::dlsym(handle_, name);
  require<DeviceError>(symbol != nullptr,
                       "cuda: {} has no function {}; install the version that CUDA {} brings", name_, name,
                       "13");
  return symbol;
}

}  // namespace candela::cuda
