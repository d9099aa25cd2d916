#include "metal/support.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <sys/mman.h>

#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif

#include <candela/core/device.h>

namespace candela::metal_tests {

void MetalTest::SetUp() {
  const std::vector<Device> devices = available_devices();
  if (std::find(devices.begin(), devices.end(), metal()) != devices.end()) return;
  const char* required = std::getenv("CANDELA_REQUIRE_METAL");
  if (required != nullptr && std::string_view(required) == "1")
    GTEST_FAIL() << "there is no Metal device here, and CANDELA_REQUIRE_METAL=1 asks for one";
  GTEST_SKIP() << "there is no Metal device here";
}

void MetalTest::TearDown() {
#if defined(CANDELA_EMULATED_METAL)
  for (const emulator::Fault& fault : emulator::take_faults())
    ADD_FAILURE() << fault.kind << ": " << fault.text;
#endif
}

Pages::Pages(std::size_t bytes)
    : mapped_(::mmap(nullptr, bytes + kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)),
      mapped_bytes_(bytes + kBytes),
      data_(mapped_) {
  if (mapped_ == MAP_FAILED) throw std::bad_alloc();
  std::size_t room = mapped_bytes_;
  std::align(kBytes, bytes, data_, room);
}

Pages::~Pages() {
  ::munmap(mapped_, mapped_bytes_);
}

Tensor random_tensor(const Shape& shape, std::uint64_t seed, DType dtype, Device device, double scale) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> numbers(static_cast<std::size_t>(numel(shape)));
  for (double& number : numbers) number = normal(engine);
  return to_device(cast(Tensor::from_values(numbers, shape), dtype), device);
}

std::vector<double> values(const Tensor& tensor) {
  return cast(to_device(tensor.detach(), Device::cpu()), DType::F64).to_vector<double>();
}

double relative_error(const std::vector<double>& got, const std::vector<double>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double difference = std::abs(got[i] - expected[i]);
    if (std::isnan(difference)) return HUGE_VAL;
    worst = std::max(worst, difference);
  }
  return worst / (largest == 0 ? 1 : largest);
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, std::size_t m,
                            std::size_t k, std::size_t n) {
  std::vector<double> c(m * n, 0);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t p = 0; p < k; ++p) {
      for (std::size_t j = 0; j < n; ++j) c[i * n + j] += a[i * k + p] * b[p * n + j];
    }
  }
  return c;
}

double limit(DType dtype) {
  return dtype == DType::F32 ? 1e-5 : (dtype == DType::BF16 ? 1e-2 : 2e-3);
}

metal::Counters Since::now() const {
  metal::Counters now = metal::counters(Device::metal());
  now.queues -= start_.queues;
  now.command_buffers -= start_.command_buffers;
  now.commits -= start_.commits;
  now.waits -= start_.waits;
  now.stalls -= start_.stalls;
  now.failures -= start_.failures;
  now.ops -= start_.ops;
  now.kernels_made -= start_.kernels_made;
  now.kernel_hits -= start_.kernel_hits;
  now.pipelines_made -= start_.pipelines_made;
  now.pipeline_hits -= start_.pipeline_hits;
  now.contiguous_copies -= start_.contiguous_copies;
  now.contiguous_bytes -= start_.contiguous_bytes;
  now.host_runs -= start_.host_runs;
  now.wrapped_bytes -= start_.wrapped_bytes;
  return now;
}

}  // namespace candela::metal_tests
