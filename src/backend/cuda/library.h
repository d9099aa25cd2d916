#pragma once

#include <string>

namespace candela::cuda {

/// A shared library of NVIDIA's, opened when it is first needed: linked in the usual way, it would keep a
/// binary that has CUDA built in from starting where it is not installed. Looked for where the loader looks,
/// then in $CUDA_HOME/lib64 and /usr/local/cuda/lib64. It stays open to the end of the process.
class Library {
 public:
  /// `name` with its version: "libcublasLt.so.13".
  explicit Library(const std::string& name);
  bool loaded() const { return handle_ != nullptr; }
  /// Why it could not be opened.
  const std::string& problem() const { return problem_; }
  void* handle() const { return handle_; }
  /// A function of it; throws DeviceError where the library has none of this name.
  template <class F>
  void bind(F& function, const char* name) const {
    function = reinterpret_cast<F>(find(name));
  }

 private:
  void* find(const char* name) const;

  std::string name_;
  void* handle_ = nullptr;
  std::string problem_;
};

}  // namespace candela::cuda
