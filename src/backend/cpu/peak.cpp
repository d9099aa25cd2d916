#include "backend/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/parallel.h>
#include <candela/core/tensor.h>

#include "backend/cpu/accelerate.h"
#include "backend/cpu/gemm.h"

#if !defined(__APPLE__)
#include <dnnl.hpp>
#endif

namespace candela {
namespace {

using Clock = std::chrono::steady_clock;

/// Seconds of one call: the median of at least 5 and at most 200 runs, about half a second in all, after two
/// to warm up.
double median_seconds(const std::function<void()>& call) {
  for (int i = 0; i < 2; ++i) call();
  std::vector<double> times;
  const auto start = Clock::now();
  while (times.size() < 5 || (times.size() < 200 && Clock::now() - start < std::chrono::milliseconds(500))) {
    const auto begin = Clock::now();
    call();
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

constexpr std::int64_t kBandwidthBytes = std::int64_t{1} << 30U;  // beyond the last-level cache of any server

std::vector<float> some_values(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) / 17.0F - 0.5F;
  return values;
}

#if defined(__APPLE__)

double run_vendor(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k) {
  require<Unsupported>(dtype == DType::F32, "peak: Accelerate multiplies f32 only; got {}", to_string(dtype));
  const std::vector<float> a = some_values(m * k);
  const std::vector<float> b = some_values(k * n);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  return median_seconds([&] {
    cblas_sgemm(kRowMajor, kNoTranspose, kNoTranspose, static_cast<int>(m), static_cast<int>(n),
                static_cast<int>(k), 1.0F, a.data(), static_cast<int>(k), b.data(), static_cast<int>(n), 0.0F,
                c.data(), static_cast<int>(n));
  });
}

#else

/// f32 values reordered into what the primitive asks for.
dnnl::memory reordered(const std::vector<float>& values, const dnnl::memory::dims& dims,
                       const dnnl::memory::desc& wanted, const dnnl::engine& engine, dnnl::stream& stream) {
  dnnl::memory plain({dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab}, engine);
  std::memcpy(plain.get_data_handle(), values.data(), values.size() * sizeof(float));
  dnnl::memory result(wanted, engine);
  dnnl::reorder(plain, result).execute(stream, plain, result);
  stream.wait();
  return result;
}

double run_vendor(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k) {
  require<Unsupported>(dtype == DType::F32 || dtype == DType::BF16,
                       "peak: oneDNN is measured in f32 and bf16; got {}", to_string(dtype));
  using dnnl::memory;
  gemm_detail::prepare_vendor();
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto type = dtype == DType::F32 ? memory::data_type::f32 : memory::data_type::bf16;
  const auto any = memory::format_tag::any;
  const dnnl::matmul::desc description({{m, k}, type, any}, {{k, n}, type, any}, {{m, n}, type, any});
  const dnnl::matmul::primitive_desc primitive_description(description, engine);
  const memory a = reordered(some_values(m * k), {m, k}, primitive_description.src_desc(), engine, stream);
  const memory b =
      reordered(some_values(k * n), {k, n}, primitive_description.weights_desc(), engine, stream);
  const memory c(primitive_description.dst_desc(), engine);
  const dnnl::matmul primitive(primitive_description);
  return median_seconds([&] {
    primitive.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
  });
}

#endif

}  // namespace

double vendor_product(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) /
         run_vendor(dtype, m, n, k);
}

double product_peak(DType dtype, std::int64_t n) {
  return vendor_product(dtype, n, n, n);
}

double copy_bandwidth() {
  const Tensor from = Tensor::empty({kBandwidthBytes}, DType::U8);
  const Tensor to = Tensor::empty({kBandwidthBytes}, DType::U8);
  auto* source = from.data<std::uint8_t>();
  auto* target = to.data<std::uint8_t>();
  // Memory never written is one shared page of zeros, which a cache holds.
  std::memset(source, 1, static_cast<std::size_t>(kBandwidthBytes));
  const double seconds = median_seconds([&] {
    parallel_for(kBandwidthBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
    });
  });
  return 2.0 * static_cast<double>(kBandwidthBytes) / seconds;
}

double read_bandwidth() {
  const Tensor from = Tensor::empty({kBandwidthBytes}, DType::U8);
  auto* source = from.data<std::uint8_t>();
  std::fill_n(source, kBandwidthBytes, std::uint8_t{1});
  // Looking for a byte that is not there reads everything, with the C library's vector code, and keeps
  // nothing.
  std::atomic<int> found{0};
  const double seconds = median_seconds([&] {
    parallel_for(kBandwidthBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      if (std::memchr(source + begin, 0, static_cast<std::size_t>(end - begin)) != nullptr) ++found;
    });
  });
  require<Error>(found == 0, "peak: memory does not hold what was written to it");
  return static_cast<double>(kBandwidthBytes) / seconds;
}

}  // namespace candela
