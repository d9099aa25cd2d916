#include "cases/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/core/parallel.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>

#include "backend/cpu/accelerate.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/vendor_threads.h"

#if !defined(__APPLE__)
#include "backend/cpu/onednn.h"
#endif

namespace candela::cases {

std::vector<double> median_seconds_in_turn(const std::vector<Contender>& calls, double budget_s,
                                           int min_rounds) {
  using Clock = std::chrono::steady_clock;
  constexpr int kWarmUps = 2;
  constexpr int kMostRounds = 1000;
  std::vector<std::vector<double>> times(calls.size());
  double spent = 0;
  for (int round = 0; round < kWarmUps + kMostRounds; ++round) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      if (calls[i].own_threads) calls[i].call();
      const auto start = Clock::now();
      calls[i].call();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (calls[i].own_threads) gemm_detail::end_vendor_threads();
      if (round < kWarmUps) continue;
      times[i].push_back(seconds);
      spent += seconds;
    }
    if (round + 1 >= kWarmUps + min_rounds && spent > budget_s) break;
  }
  std::vector<double> medians;
  for (std::vector<double>& own : times) {
    const auto middle = own.begin() + static_cast<std::ptrdiff_t>(own.size() / 2);
    std::nth_element(own.begin(), middle, own.end());
    medians.push_back(*middle);
  }
  return medians;
}

namespace {

/// Beyond the last-level cache of any server.
constexpr std::int64_t kYardstickBytes = std::int64_t{1} << 29U;

std::vector<float> some_values(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) / 17.0F - 0.5F;
  return values;
}

}  // namespace

#if defined(__APPLE__)

struct VendorProduct::State {
  int m, n, k, ldb;
  int transpose_b;
  std::vector<float> a, b, c;
};

std::string VendorProduct::supports(DType dtype, Layout layout) {
  if (dtype != DType::F32) return "Accelerate's BLAS multiplies f32 only";
  return layout == Layout::Packed ? "Accelerate has no packed layout" : "";
}

VendorProduct::VendorProduct(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k, Layout layout) {
  const std::string refusal = supports(dtype, layout);
  require<Unsupported>(refusal.empty(), "peak: {}", refusal);
  const bool transposed = layout == Layout::Transposed;
  state_ = std::make_unique<State>(
      State{static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
            static_cast<int>(transposed ? k : n), transposed ? kTranspose : kNoTranspose, some_values(m * k),
            some_values(k * n), std::vector<float>(static_cast<std::size_t>(m * n))});
}

void VendorProduct::run() {
  State& s = *state_;
  cblas_sgemm(kRowMajor, kNoTranspose, s.transpose_b, s.m, s.n, s.k, 1.0F, s.a.data(), s.k, s.b.data(), s.ldb,
              0.0F, s.c.data(), s.n);
}

#else

struct VendorProduct::State {
  int threads;  // that the primitive is made for: it runs on no more
  dnnl::engine engine;
  dnnl::stream stream;
  dnnl::memory a, b, c;
  dnnl::matmul primitive;
};

namespace {

/// oneDNN's product of `a` [m, k] and `b` [k, n] in the layouts wanted; throws dnnl::error where it has none.
dnnl::matmul::primitive_desc vendor_product(const dnnl::engine& engine, DType dtype, std::int64_t m,
                                            std::int64_t n, std::int64_t k, VendorProduct::Layout layout) {
  using dnnl::memory;
  using Tag = memory::format_tag;
  const auto type = dtype == DType::F32 ? memory::data_type::f32 : memory::data_type::bf16;
  const Tag own = layout == VendorProduct::Layout::Packed ? Tag::any : Tag::ab;
  const Tag right = layout == VendorProduct::Layout::Transposed ? Tag::ba : own;
  return gemm_detail::product_of(engine, {{m, k}, type, own}, {{k, n}, type, right}, nullptr,
                                 {{m, n}, type, own});
}

}  // namespace

std::string VendorProduct::supports(DType dtype, Layout layout) {
  if (dtype != DType::F32 && dtype != DType::BF16) return "oneDNN is measured in f32 and bf16";
  gemm_detail::prepare_vendor();
  constexpr std::int64_t kSize = 16;
  try {
    vendor_product(dnnl::engine(dnnl::engine::kind::cpu, 0), dtype, kSize, kSize, kSize, layout);
    return {};
  } catch (const dnnl::error&) {
    return fmt::format("oneDNN has no {} product on this processor", to_string(dtype));
  }
}

VendorProduct::VendorProduct(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k, Layout layout) {
  const std::string refusal = supports(dtype, layout);
  require<Unsupported>(refusal.empty(), "peak: {}", refusal);
  using dnnl::memory;
  using Tag = memory::format_tag;
  const int threads = thread_count();
  gemm_detail::set_vendor_threads(threads);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::matmul::primitive_desc chosen = vendor_product(engine, dtype, m, n, k, layout);
  const auto filled = [&](const memory::dims& dims, const memory::desc& wanted) {
    std::vector<float> values = some_values(dims[0] * dims[1]);
    memory plain({dims, memory::data_type::f32, Tag::ab}, engine, values.data());
    memory result(wanted, engine);
    dnnl::reorder(plain, result).execute(stream, plain, result);
    stream.wait();
    return result;
  };
  state_ = std::make_unique<State>(State{threads, engine, stream, filled({m, k}, chosen.src_desc()),
                                         filled({k, n}, chosen.weights_desc()),
                                         memory(chosen.dst_desc(), engine), dnnl::matmul(chosen)});
}

void VendorProduct::run() {
  State& s = *state_;
  gemm_detail::set_vendor_threads(s.threads);
  s.primitive.execute(s.stream, {{DNNL_ARG_SRC, s.a}, {DNNL_ARG_WEIGHTS, s.b}, {DNNL_ARG_DST, s.c}});
  s.stream.wait();
}

#endif

VendorProduct::~VendorProduct() = default;

constexpr std::int64_t kYardstickSize = 1024;

ProductYardstick::ProductYardstick(DType dtype)
    : a_(full({kYardstickSize, kYardstickSize}, 0.5, dtype)),
      b_(full({kYardstickSize, kYardstickSize}, 0.25, dtype)) {
  vendor_refusal_ = VendorProduct::supports(dtype, VendorProduct::Layout::Same);
  if (vendor_refusal_.empty()) {
    vendor_ = std::make_unique<VendorProduct>(dtype, kYardstickSize, kYardstickSize, kYardstickSize,
                                              VendorProduct::Layout::Same);
  }
}

double ProductYardstick::flops() {
  constexpr auto kSize = static_cast<double>(kYardstickSize);
  return 2 * kSize * kSize * kSize;
}

void ProductYardstick::run_own() {
  const NoGrad guard;
  c_ = matmul(a_, b_);
}

void ProductYardstick::run_vendor() {
  vendor_->run();
}

MemoryYardstick::MemoryYardstick()
    : from_(Tensor::empty({kYardstickBytes}, DType::U8)), to_(Tensor::empty({kYardstickBytes}, DType::U8)) {
  // Memory never written is one shared page of zeros, which a cache holds.
  std::memset(from_.data<std::uint8_t>(), 1, static_cast<std::size_t>(kYardstickBytes));
  copy();
}

double MemoryYardstick::bytes_copied() {
  return 2.0 * static_cast<double>(kYardstickBytes);
}
double MemoryYardstick::bytes_read() {
  return static_cast<double>(kYardstickBytes);
}

void MemoryYardstick::copy() {
  const auto* source = from_.data<std::uint8_t>();
  auto* target = to_.data<std::uint8_t>();
  parallel_for(kYardstickBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
  });
}

/// Looking for a byte that is not there reads everything, with the C library's vector code, and keeps
/// nothing.
void MemoryYardstick::read() {
  const auto* source = from_.data<std::uint8_t>();
  std::atomic<int> found{0};
  parallel_for(kYardstickBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
    if (std::memchr(source + begin, 0, static_cast<std::size_t>(end - begin)) != nullptr) ++found;
  });
  require<Error>(found == 0, "peak: memory does not hold what was written to it");
}

}  // namespace candela::cases
