#pragma once

#include <dnnl.hpp>

/// What differs between oneDNN 2 and 3: the third has neither operation descriptors nor output scales.
namespace candela::gemm_detail {

/// C = alpha A B + beta C. A bias belongs to an unscaled product only: oneDNN adds it before it scales.
inline dnnl::primitive_attr scaled_product(float alpha, float beta) {
  dnnl::primitive_attr attributes;
  dnnl::post_ops after;  // in this order: alpha must not reach the old C
#if DNNL_VERSION_MAJOR >= 3
  if (alpha != 1) after.append_eltwise(dnnl::algorithm::eltwise_linear, alpha, 0);
#else
  if (alpha != 1) attributes.set_output_scales(0, {alpha});
#endif
  if (beta != 0) after.append_sum(beta);
  attributes.set_post_ops(after);
  return attributes;
}

/// C = A B + bias; a null bias: none.
inline dnnl::matmul::primitive_desc product_of(const dnnl::engine& engine, const dnnl::memory::desc& a,
                                               const dnnl::memory::desc& b, const dnnl::memory::desc* bias,
                                               const dnnl::memory::desc& c,
                                               const dnnl::primitive_attr& attributes = {}) {
#if DNNL_VERSION_MAJOR >= 3
  return bias != nullptr ? dnnl::matmul::primitive_desc(engine, a, b, *bias, c, attributes)
                         : dnnl::matmul::primitive_desc(engine, a, b, c, attributes);
#else
  return {bias != nullptr ? dnnl::matmul::desc(a, b, *bias, c) : dnnl::matmul::desc(a, b, c), attributes,
          engine};
#endif
}

}  // namespace candela::gemm_detail
