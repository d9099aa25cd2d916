#include "backend/cpu/gemm.h"

#if defined(__x86_64__) && !defined(__APPLE__)

#include <array>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <unordered_map>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

/// bf16 products by oneDNN.
namespace candela::gemm_detail {
namespace {

using dnnl::memory;

/// Everything a oneDNN primitive is compiled for.
struct Shape {
  std::int64_t m, n, k;
  std::int64_t a_strides[2], b_strides[2], c_strides[2];
  DType c, bias;
  bool has_bias, inside_parallel;
  float alpha, beta;

  auto operator<=>(const Shape&) const = default;
};

memory::data_type type_of(DType dtype) {
  return dtype == DType::F32 ? memory::data_type::f32 : memory::data_type::bf16;
}

memory::desc description(std::int64_t rows, std::int64_t cols, DType dtype,
                         const std::int64_t (&strides)[2]) {
  return {{rows, cols}, type_of(dtype), {strides[0], strides[1]}};
}

class Primitives {
 public:
  Primitives() { prepare_vendor(); }

  const dnnl::engine& engine() const { return engine_; }

  dnnl::matmul find(const Shape& shape) {
    const std::lock_guard lock(mutex_);
    const auto found = made_.find(shape);
    if (found != made_.end()) return found->second;
    // Lengths of sequences come in any number: what was made for them is not kept for ever.
    constexpr std::size_t kMost = 1024;
    if (made_.size() >= kMost) made_.clear();
    return made_.emplace(shape, make(shape)).first->second;
  }

 private:
  dnnl::matmul make(const Shape& shape) const {
    const memory::desc a = description(shape.m, shape.k, DType::BF16, shape.a_strides);
    const memory::desc b = description(shape.k, shape.n, DType::BF16, shape.b_strides);
    const memory::desc c = description(shape.m, shape.n, shape.c, shape.c_strides);
    dnnl::primitive_attr attributes;
    if (shape.alpha != 1) attributes.set_output_scales(0, {shape.alpha});
    if (shape.beta != 0) {
      dnnl::post_ops after;
      after.append_sum(shape.beta);
      attributes.set_post_ops(after);
    }
    if (!shape.has_bias) return dnnl::matmul({{a, b, c}, attributes, engine_});
    const memory::desc bias({1, shape.n}, type_of(shape.bias), memory::format_tag::ab);
    return dnnl::matmul({{a, b, bias, c}, attributes, engine_});
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::mutex mutex_;
  std::map<Shape, dnnl::matmul> made_;
};

Primitives& primitives() {
  static Primitives instance;
  return instance;
}

/// The strides that oneDNN is told of: one is 1, the other the leading dimension.
void plain_strides(const Matrix& x, std::int64_t rows, std::int64_t cols, std::int64_t (&out)[2]) {
  BlasMatrix plain;
  as_blas(x, rows, cols, plain);
  out[0] = plain.transposed ? 1 : plain.ld;
  out[1] = plain.transposed ? plain.ld : 1;
}

}  // namespace

std::string onednn_bf16_supports(const Product& p) {
  static const bool multiplies = [] {
    prepare_vendor();
    constexpr auto kNeeded =
        static_cast<unsigned>(dnnl_cpu_isa_avx512_core_bf16);  // one bit per instruction set
    return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & kNeeded) == kNeeded;
  }();
  BlasMatrix probe;
  if (!multiplies) return "this processor does not multiply bf16";
  if (p.a.dtype != DType::BF16 || p.b.dtype != DType::BF16) return "takes bf16 only";
  if (p.c.dtype != DType::BF16 && p.c.dtype != DType::F32) return "gives bf16 or f32";
  if (p.alpha == 0) return "does not let NaN through where alpha is 0";
  if (p.bias.data != nullptr && (p.bias.stride != 1 || p.bias.dtype == DType::F16 || p.alpha != 1)) {
    return "adds a bias of unit stride, bf16 or f32, to an unscaled product";
  }
  if (!as_blas(p.a, p.m, p.k, probe) || !as_blas(p.b, p.k, p.n, probe))
    return "needs matrices with one unit stride";
  if (!as_blas(p.c, p.m, p.n, probe) || probe.transposed) return "writes rows";
  return {};
}

void onednn_bf16(const Product& p) {
  Shape shape{};
  shape.m = p.m;
  shape.n = p.n;
  shape.k = p.k;
  plain_strides(p.a, p.m, p.k, shape.a_strides);
  plain_strides(p.b, p.k, p.n, shape.b_strides);
  plain_strides(p.c, p.m, p.n, shape.c_strides);
  shape.c = p.c.dtype;
  shape.has_bias = p.bias.data != nullptr;
  shape.bias = shape.has_bias ? p.bias.dtype : DType::F32;
  shape.inside_parallel = in_parallel();
  shape.alpha = static_cast<float>(p.alpha);
  shape.beta = static_cast<float>(p.beta);
  try {
    Primitives& all = primitives();
    const dnnl::matmul primitive = all.find(shape);
    const auto operand = [&](std::int64_t rows, std::int64_t cols, DType dtype,
                             const std::int64_t(&strides)[2], const void* data) {
      return memory(description(rows, cols, dtype, strides), all.engine(), const_cast<void*>(data));
    };
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, operand(p.m, p.k, DType::BF16, shape.a_strides, p.a.data)},
        {DNNL_ARG_WEIGHTS, operand(p.k, p.n, DType::BF16, shape.b_strides, p.b.data)},
        {DNNL_ARG_DST, operand(p.m, p.n, p.c.dtype, shape.c_strides, p.c.data)}};
    if (shape.has_bias) {
      const std::int64_t strides[2] = {p.n, 1};
      arguments.emplace(DNNL_ARG_BIAS, operand(1, p.n, shape.bias, strides, p.bias.data));
    }
    dnnl::stream stream(all.engine());
    primitive.execute(stream, arguments);
    stream.wait();
  } catch (const dnnl::error& error) {
    throw DeviceError(
        fmt::format("matmul: oneDNN failed on [{}, {}] x [{}, {}]: {}", p.m, p.k, p.k, p.n, error.what()));
  }
}

}  // namespace candela::gemm_detail

#else

namespace candela::gemm_detail {

std::string onednn_bf16_supports(const Product&) {
  return "this build has no oneDNN for x86-64";
}

void onednn_bf16(const Product&) {}

}  // namespace candela::gemm_detail

#endif
