// oneDNN's header leaves the visibility of what it declares to the build.
#pragma GCC visibility push(default)
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>

#include "faults/interpose.h"

/// oneDNN 2.6 survives no allocation that fails while it makes code, and nobody can help it from outside:
/// candela looks for room before (require_room_for_code()). Within oneDNN nothing fails here.
namespace {

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

#if DNNL_VERSION_MAJOR < 3
using MemoryDescription = const dnnl_memory_desc_t*;
#else
using MemoryDescription = const_dnnl_memory_desc_t;
#endif

}  // namespace

extern "C" {

dnnl_status_t dnnl_primitive_create(dnnl_primitive_t* primitive, const_dnnl_primitive_desc_t description) {
  static const auto real = next<decltype(&dnnl_primitive_create)>("dnnl_primitive_create");
  const candela::faults::Pause pause;
  return real(primitive, description);
}

dnnl_status_t dnnl_primitive_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream, int count,
                                     const dnnl_exec_arg_t* arguments) {
  static const auto real = next<decltype(&dnnl_primitive_execute)>("dnnl_primitive_execute");
  const candela::faults::Pause pause;
  return real(primitive, stream, count, arguments);
}

dnnl_status_t dnnl_memory_create(dnnl_memory_t* memory, MemoryDescription description, dnnl_engine_t engine,
                                 void* handle) {
  static const auto real = next<decltype(&dnnl_memory_create)>("dnnl_memory_create");
  const candela::faults::Pause pause;
  return real(memory, description, engine, handle);
}

dnnl_status_t dnnl_stream_create(dnnl_stream_t* stream, dnnl_engine_t engine, unsigned flags) {
  static const auto real = next<decltype(&dnnl_stream_create)>("dnnl_stream_create");
  const candela::faults::Pause pause;
  return real(stream, engine, flags);
}

dnnl_status_t dnnl_sgemm(char a, char b, dnnl_dim_t m, dnnl_dim_t n, dnnl_dim_t k, float alpha,
                         const float* left, dnnl_dim_t lda, const float* right, dnnl_dim_t ldb, float beta,
                         float* out, dnnl_dim_t ldc) {
  static const auto real = next<decltype(&dnnl_sgemm)>("dnnl_sgemm");
  const candela::faults::Pause pause;
  return real(a, b, m, n, k, alpha, left, lda, right, ldb, beta, out, ldc);
}

#if DNNL_VERSION_MAJOR < 3
dnnl_status_t dnnl_primitive_desc_create(dnnl_primitive_desc_t* description, const_dnnl_op_desc_t operation,
                                         const_dnnl_primitive_attr_t attributes, dnnl_engine_t engine,
                                         const_dnnl_primitive_desc_t forward) {
  static const auto real = next<decltype(&dnnl_primitive_desc_create)>("dnnl_primitive_desc_create");
  const candela::faults::Pause pause;
  return real(description, operation, attributes, engine, forward);
}
#endif
}
#pragma GCC visibility pop
