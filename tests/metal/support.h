#pragma once

#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include <candela/core/tensor.h>
#include <candela/ops/copy.h>

#include "backend/kernels.h"
#include "backend/metal/counters.h"
#include "backend/selector.h"

namespace candela::metal_tests {

/// Skips where there is no Metal device (a virtual Mac, say), or fails there if the environment has
/// CANDELA_REQUIRE_METAL=1: a run that is to prove something about a GPU must not be green without one. On
/// the stand-in, a rule that the test broke without noticing fails it.
class MetalTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
};

inline Device metal() {
  return Device::metal();
}

/// Zeroed pages of the kind that Apple silicon has, as a mapped file would be: what a buffer without a copy
/// can lie over.
class Pages {
 public:
  /// of one page
  static constexpr std::size_t kBytes = 16384;

  explicit Pages(std::size_t bytes);
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages();
  void* data() const { return data_; }

 private:
  void* mapped_;
  std::size_t mapped_bytes_;
  void* data_;
};

/// Normal random values from `seed`, rounded to `dtype`, on `device`.
Tensor random_tensor(const Shape& shape, std::uint64_t seed, DType dtype = DType::F32,
                     Device device = metal(), double scale = 1);

/// All elements in f64, whatever dtype and device.
std::vector<double> values(const Tensor& tensor);

/// The largest difference, relative to the largest magnitude of `expected` (1 if that is all zero).
double relative_error(const std::vector<double>& got, const std::vector<double>& expected);
inline double relative_error(const Tensor& got, const Tensor& expected) {
  return relative_error(values(got), values(expected));
}

/// a [M, K] b [K, N] in f64.
std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, std::size_t m,
                            std::size_t k, std::size_t n);

/// The limits of docs/numerics.md.
double limit(DType dtype);

/// The implementation named `name` in a list of the Metal device, or null.
template <class Args>
const Kernel<Args>* find_kernel(KernelList<Args> KernelTable::*list, std::string_view name) {
  for (const Kernel<Args>& kernel : (backend(metal()).kernels().*list).kernels) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

/// How often the implementation `name` ran; 0 if there is none.
template <class Args>
std::uint64_t runs_of(KernelList<Args> KernelTable::*list, std::string_view name) {
  const Kernel<Args>* kernel = find_kernel(list, name);
  return kernel == nullptr ? 0 : kernel->runs->load();
}

/// Runs the implementation `name` whatever the selector would choose. Returns why it cannot, or "".
template <class Args>
std::string run_named(KernelList<Args> KernelTable::*list, std::string_view name, const Args& args) {
  const Kernel<Args>* kernel = find_kernel(list, name);
  if (kernel == nullptr) return "there is none";
  std::string refusal = kernel->supports(args);
  if (!refusal.empty()) return refusal;
  kernel->runs->fetch_add(1);
  launch(*kernel, backend(metal()), args);
  return {};
}

/// The names of the GPU implementations of a list: all but "host".
template <class Args>
std::vector<std::string> gpu_names(KernelList<Args> KernelTable::*list) {
  std::vector<std::string> names;
  for (const Kernel<Args>& kernel : (backend(metal()).kernels().*list).kernels) {
    if (kernel.name != "host") names.emplace_back(kernel.name);
  }
  return names;
}

/// The counters of the Metal device since construction.
class Since {
 public:
  Since() : start_(metal::counters(Device::metal())) {}
  metal::Counters now() const;

 private:
  metal::Counters start_;
};

}  // namespace candela::metal_tests
