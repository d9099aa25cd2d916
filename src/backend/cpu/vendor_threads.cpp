#include "backend/cpu/vendor_threads.h"

#include <dlfcn.h>

namespace candela::gemm_detail {
namespace {

/// The functions of the OpenMP runtime that the process has, as oneDNN's own calls find them; null where it
/// has none. Looked up by name: Candela itself is not built with OpenMP.
struct Runtime {
  int (*max_threads)() = find<int (*)()>("omp_get_max_threads");
  void (*set_threads)(int) = find<void (*)(int)>("omp_set_num_threads");
  int (*pause_all)(int) = find<int (*)(int)>("omp_pause_resource_all");

  static const Runtime& instance() {
    static const Runtime runtime;
    return runtime;
  }

 private:
  template <class Function>
  static Function find(const char* name) {
    return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  }
};

}  // namespace

OneVendorThread::OneVendorThread() {
  const Runtime& runtime = Runtime::instance();
  if (runtime.max_threads == nullptr || runtime.set_threads == nullptr) return;
  const int count = runtime.max_threads();
  if (count == 1) return;
  before_ = count;
  runtime.set_threads(1);
}

OneVendorThread::~OneVendorThread() {
  if (before_ != 0) Runtime::instance().set_threads(before_);
}

void set_vendor_threads(int count) {
  if (const Runtime& runtime = Runtime::instance(); runtime.set_threads != nullptr)
    runtime.set_threads(count);
}

void end_vendor_threads() {
  constexpr int kPauseHard = 2;  // omp_pause_hard
  if (const Runtime& runtime = Runtime::instance(); runtime.pause_all != nullptr)
    runtime.pause_all(kPauseHard);
}

}  // namespace candela::gemm_detail
