// oneDNN's header leaves the visibility of what it declares to the build.
#pragma GCC visibility push(default)
#include <atomic>
#include <cstddef>
#include <dlfcn.h>
#include <mutex>
#include <oneapi/dnnl/dnnl.h>
#include <optional>
#include <set>

#include "faults/interpose.h"

/// oneDNN 2.6 survives no allocation that fails while it makes something (code, an engine, a memory object),
/// and nobody can help it from outside: candela looks for room before (require_room_for_code()). Nothing
/// fails here within such a call, nor in the first execution of a primitive and the first dnnl_sgemm, which
/// make kernels too. Later executions, where candela looks for nothing, are not spared.
namespace {

using candela::faults::Pause;

/// The vendor's own function of this name.
template <class Function>
Function* next(const char* name, Function*) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

/// Calls the vendor's function `name`, in which nothing fails.
template <class Function, class... Arguments>
auto spared(const char* name, Function* same, Arguments... arguments) {
  const Pause pause;
  return next(name, same)(arguments...);
}

/// Primitives that were made and have not run yet.
class Fresh {
 public:
  static Fresh& instance() {
    static Fresh& fresh = *new Fresh;
    return fresh;
  }
  void add(const_dnnl_primitive_t primitive) {
    const std::lock_guard lock(mutex_);
    primitives_.insert(primitive);
  }
  bool take(const_dnnl_primitive_t primitive) {
    const std::lock_guard lock(mutex_);
    return primitives_.erase(primitive) > 0;
  }

 private:
  std::mutex mutex_;
  std::set<const_dnnl_primitive_t> primitives_;
};

#if DNNL_VERSION_MAJOR < 3
using MemoryDescription = const dnnl_memory_desc_t*;
#else
using MemoryDescription = const_dnnl_memory_desc_t;
#endif

}  // namespace

extern "C" {

dnnl_status_t dnnl_engine_create(dnnl_engine_t* engine, dnnl_engine_kind_t kind, std::size_t index) {
  return spared("dnnl_engine_create", &dnnl_engine_create, engine, kind, index);
}

dnnl_status_t dnnl_stream_create(dnnl_stream_t* stream, dnnl_engine_t engine, unsigned flags) {
  return spared("dnnl_stream_create", &dnnl_stream_create, stream, engine, flags);
}

dnnl_status_t dnnl_memory_create(dnnl_memory_t* memory, MemoryDescription description, dnnl_engine_t engine,
                                 void* handle) {
  return spared("dnnl_memory_create", &dnnl_memory_create, memory, description, engine, handle);
}

dnnl_status_t dnnl_primitive_attr_create(dnnl_primitive_attr_t* attributes) {
  return spared("dnnl_primitive_attr_create", &dnnl_primitive_attr_create, attributes);
}

dnnl_status_t dnnl_primitive_attr_set_post_ops(dnnl_primitive_attr_t attributes,
                                               const_dnnl_post_ops_t operations) {
  return spared("dnnl_primitive_attr_set_post_ops", &dnnl_primitive_attr_set_post_ops, attributes,
                operations);
}

dnnl_status_t dnnl_post_ops_create(dnnl_post_ops_t* operations) {
  return spared("dnnl_post_ops_create", &dnnl_post_ops_create, operations);
}

#if DNNL_VERSION_MAJOR < 3
dnnl_status_t dnnl_primitive_attr_set_output_scales(dnnl_primitive_attr_t attributes, dnnl_dim_t count,
                                                    int mask, const float* scales) {
  return spared("dnnl_primitive_attr_set_output_scales", &dnnl_primitive_attr_set_output_scales, attributes,
                count, mask, scales);
}

dnnl_status_t dnnl_post_ops_append_sum_v2(dnnl_post_ops_t operations, float scale, dnnl_data_type_t type) {
  return spared("dnnl_post_ops_append_sum_v2", &dnnl_post_ops_append_sum_v2, operations, scale, type);
}

dnnl_status_t dnnl_primitive_desc_create(dnnl_primitive_desc_t* description, const_dnnl_op_desc_t operation,
                                         const_dnnl_primitive_attr_t attributes, dnnl_engine_t engine,
                                         const_dnnl_primitive_desc_t forward) {
  return spared("dnnl_primitive_desc_create", &dnnl_primitive_desc_create, description, operation, attributes,
                engine, forward);
}

dnnl_status_t dnnl_primitive_desc_iterator_create(dnnl_primitive_desc_iterator_t* iterator,
                                                  const_dnnl_op_desc_t operation,
                                                  const_dnnl_primitive_attr_t attributes,
                                                  dnnl_engine_t engine, const_dnnl_primitive_desc_t forward) {
  return spared("dnnl_primitive_desc_iterator_create", &dnnl_primitive_desc_iterator_create, iterator,
                operation, attributes, engine, forward);
}

dnnl_status_t dnnl_primitive_desc_iterator_next(dnnl_primitive_desc_iterator_t iterator) {
  return spared("dnnl_primitive_desc_iterator_next", &dnnl_primitive_desc_iterator_next, iterator);
}

dnnl_primitive_desc_t dnnl_primitive_desc_iterator_fetch(const_dnnl_primitive_desc_iterator_t iterator) {
  return spared("dnnl_primitive_desc_iterator_fetch", &dnnl_primitive_desc_iterator_fetch, iterator);
}
#else
dnnl_status_t dnnl_matmul_primitive_desc_create(dnnl_primitive_desc_t* description, dnnl_engine_t engine,
                                                const_dnnl_memory_desc_t a, const_dnnl_memory_desc_t b,
                                                const_dnnl_memory_desc_t bias, const_dnnl_memory_desc_t c,
                                                const_dnnl_primitive_attr_t attributes) {
  return spared("dnnl_matmul_primitive_desc_create", &dnnl_matmul_primitive_desc_create, description, engine,
                a, b, bias, c, attributes);
}
#endif

dnnl_status_t dnnl_primitive_create(dnnl_primitive_t* primitive, const_dnnl_primitive_desc_t description) {
  const Pause pause;
  const dnnl_status_t status = next("dnnl_primitive_create", &dnnl_primitive_create)(primitive, description);
  if (status == dnnl_success) Fresh::instance().add(*primitive);
  return status;
}

dnnl_status_t dnnl_primitive_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream, int count,
                                     const dnnl_exec_arg_t* arguments) {
  static const auto real = next("dnnl_primitive_execute", &dnnl_primitive_execute);
  std::optional<Pause> pause(std::in_place);
  if (!Fresh::instance().take(primitive)) pause.reset();
  return real(primitive, stream, count, arguments);
}

dnnl_status_t dnnl_sgemm(char a, char b, dnnl_dim_t m, dnnl_dim_t n, dnnl_dim_t k, float alpha,
                         const float* left, dnnl_dim_t lda, const float* right, dnnl_dim_t ldb, float beta,
                         float* out, dnnl_dim_t ldc) {
  static const auto real = next("dnnl_sgemm", &dnnl_sgemm);
  static std::atomic<bool> first{true};
  std::optional<Pause> pause;
  if (first.exchange(false)) pause.emplace();
  return real(a, b, m, n, k, alpha, left, lda, right, ldb, beta, out, ldc);
}
}
#pragma GCC visibility pop
