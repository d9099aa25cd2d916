#include <algorithm>
#include <cstdint>
#include <vector>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>

#include "backend/backend.h"
#include "backend/cuda/stream.h"
#include "cuda/gpu.h"
#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;
using test::Gpu;
using test::kCuda;

std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 8191) - 4000;
  return values;
}

/// The CPU is there whatever the machine has: a binary with CUDA built in starts without a driver.
TEST(CudaRegistry, TheCpuComesFirst) {
  EXPECT_EQ(available_devices().front(), Device::cpu());
  if (!test::has_gpu()) {
    EXPECT_THROW(backend(kCuda), DeviceError);
  }
}

class CudaDevice : public Gpu {};

/// One slot of the pinned ring holds 8 MiB, the ring eight of them.
TEST_F(CudaDevice, UploadsOfAnySizeArrive) {
  for (const std::size_t count :
       {std::size_t{1}, std::size_t{1000}, std::size_t{2} << 20U, (std::size_t{20} << 20U) + 3}) {
    const std::vector<float> values = numbers(count);
    const Tensor x = Tensor::from_values(values, {static_cast<std::int64_t>(count)}, kCuda);
    EXPECT_EQ(x.to_vector<float>(), values) << count;
  }
}

TEST_F(CudaDevice, AnUploadMayBeOverwrittenAtOnce) {
  std::vector<float> values = numbers(1 << 16);
  const std::vector<float> before = values;
  std::vector<Tensor> kept;
  for (int i = 0; i < 32; ++i) {
    kept.push_back(Tensor::from_values(values, {1 << 16}, kCuda));
    std::fill(values.begin(), values.end(), -1.0F);
    values = before;
  }
  for (const Tensor& x : kept) EXPECT_EQ(x.to_vector<float>(), before);
}

TEST_F(CudaDevice, ViewsAreReadAsTheyLie) {
  const Tensor x = Tensor::from_values(numbers(60), {3, 4, 5}, kCuda);
  const Tensor turned = transpose(slice(x, 1, 1, 3), 0, 2);
  EXPECT_EQ(turned.to_vector<float>(),
            transpose(slice(to_device(x, Device::cpu()), 1, 1, 3), 0, 2).to_vector<float>());
}

TEST_F(CudaDevice, AnIndexOutOfRangeIsToldWhereTheHostReads) {
  const Tensor weight = Tensor::from_values(numbers(40), {10, 4}, kCuda);
  const Tensor bad = embedding(weight, Tensor::from_values(std::vector<std::int32_t>{3, 12}, {2}, kCuda));
  EXPECT_EQ(error_of<InvalidArgument>([&] { bad.to_vector<float>(); }),
            "embedding: ids must be in [0, 10); got 12");
  const Tensor good = embedding(weight, Tensor::from_values(std::vector<std::int32_t>{3, 9}, {2}, kCuda));
  EXPECT_EQ(good.to_vector<float>()[0], numbers(40)[12]);
  const Tensor loss =
      cross_entropy(weight, Tensor::from_values(std::vector<std::int32_t>(10, 4), {10}, kCuda));
  EXPECT_EQ(error_of<InvalidArgument>([&] { loss.to_vector<float>(); }),
            "cross_entropy: targets must be in [0, 4); got 4");
}

TEST_F(CudaDevice, GoesOnAfterItRanOutOfMemory) {
  std::vector<Tensor> held;
  const std::string problem = error_of<DeviceError>([&] {
    for (int i = 0; i < 4096; ++i) held.push_back(Tensor::empty({std::int64_t{1} << 30U}, DType::F32, kCuda));
  });
  EXPECT_NE(problem.find("has no room"), std::string::npos) << problem;
  held.clear();
  const std::vector<float> values = numbers(1000);
  EXPECT_EQ(Tensor::from_values(values, {1000}, kCuda).to_vector<float>(), values);
  device_interface(kCuda).allocator().trim();
}

/// Any call of CUDA's may fail: the error says in what, and the next op runs.
TEST_F(CudaDevice, AFailedCallIsToldAndTheNextOneWorks) {
  const Tensor x = Tensor::from_values(numbers(64), {8, 8}, kCuda);
  const Tensor weight = Tensor::from_values(numbers(8), {8}, kCuda);
  const auto work = [&] { return sum(rms_norm(matmul(x, x), weight, 1e-5)).item(); };
  const double expected = work();
  int told = 0;
  for (int n = 1; n <= 8; ++n) {
    cuda::fail_nth_call(n);
    const std::string problem = error_of<DeviceError>(work);
    cuda::fail_nth_call(0);
    if (problem == "no error") continue;
    ++told;
    EXPECT_EQ(problem.rfind("cuda: ", 0), 0U) << problem;
    EXPECT_EQ(work(), expected) << "after call " << n;
  }
  EXPECT_GE(told, 4);
}

TEST_F(CudaDevice, TheSameWorkTakesTheSameMemory) {
  Allocator& allocator = device_interface(kCuda).allocator();
  Generator generator(3);
  const auto work = [&] {
    const Tensor x = normal({64, 128}, generator, 0, 1, DType::F32, kCuda);
    const Tensor w = normal({128, 256}, generator, 0, 1, DType::F32, kCuda);
    return sum(silu(matmul(x, w))).item();
  };
  for (int i = 0; i < 10; ++i) work();
  const std::size_t reserved = allocator.stats().reserved;
  const std::size_t allocated = allocator.stats().allocated;
  for (int i = 0; i < 1000; ++i) work();
  EXPECT_EQ(allocator.stats().reserved, reserved);
  EXPECT_EQ(allocator.stats().allocated, allocated);
}

}  // namespace
}  // namespace candela
