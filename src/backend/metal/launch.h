#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "backend/args/tensor_arg.h"
#include "backend/metal/engine.h"

namespace candela::metal {

/// One dispatch of a native shader: the bindings in the order of the shader's parameters, then the grid.
class Launch {
 public:
  Launch(Encoding& encoding, std::string_view family, const std::string& function,
         std::span<const ShaderConstant> constants = {})
      : encoding_(encoding),
        pipeline_(encoding.pipeline(family, function, constants)),
        encoder_(encoding.compute()),
        function_(function) {
    encoder_.set_pipeline(pipeline_);
  }

  Launch& tensor(const TensorArg& arg);
  /// For an absent tensor the memory of `other` is bound; the shader does not touch it then.
  Launch& optional(const TensorArg& arg, const TensorArg& other);
  /// Where the shader reports indices out of range.
  Launch& fault();
  template <class P>
  Launch& params(const P& params) {
    static_assert(sizeof(P) <= 4096, "setBytes takes at most 4 KiB");
    encoder_.set_bytes(&params, sizeof(P), index_++);
    return *this;
  }

  /// One thread per element of a grid of any size.
  void over(std::size_t x, std::size_t y = 1);
  /// `groups` threadgroups that work on rows of `length`: as many threads as help, a power of two.
  void rows(std::size_t groups, std::size_t length);
  /// Threadgroups of exactly `threads`; throws DeviceError if the pipeline cannot hold so many.
  void groups(objc::Size groups, std::size_t threads);

 private:
  Encoding& encoding_;
  const objc::Pipeline& pipeline_;
  objc::ComputeEncoder& encoder_;
  std::string function_;
  std::size_t index_ = 0;
};

/// "f32", "bf16", ...: the suffix of shader names.
inline std::string suffix(DType dtype) {
  return "_" + std::string(to_string(dtype));
}

/// Bytes that an op reads or writes of this tensor.
inline double bytes_of(const TensorArg& arg) {
  return arg.present() ? static_cast<double>(arg.numel()) * static_cast<double>(size_of(arg.dtype)) : 0;
}

}  // namespace candela::metal
