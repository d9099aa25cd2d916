#include <cmath>
#include <cstdlib>
#include <map>

#include <candela/autograd/backward.h>
#include <candela/core/device.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/reduce.h>
#include <candela/ops/softmax.h>
#include <candela/ops/topk.h>

#include "metal/support.h"

#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif

namespace candela::metal_tests {
namespace {

class Stress : public MetalTest {};

/// Nobody has to read what was computed last.
TEST(EndDeathTest, AProgramMayEndWhileWorkRuns) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto end_at_work = [] {
    const Tensor a = random_tensor({256, 256}, 1);
    for (int i = 0; i < 2000; ++i) exp(a);
    std::exit(7);
  };
  EXPECT_EXIT(end_at_work(), testing::ExitedWithCode(7), "");
}

/// One round of everything that this backend has, forwards and back.
void one_of_everything(std::uint64_t seed) {
  const std::int64_t n = 4 + static_cast<std::int64_t>(seed % 7);
  const auto parameter = [&](const Shape& shape, std::uint64_t number) {
    return random_tensor(shape, seed + number).set_requires_grad(true);
  };
  const Tensor weight = parameter({12, 12}, 1);
  const Tensor gain = parameter({12}, 2);
  const Tensor shift = parameter({12}, 3);
  const LowRank layer{parameter({2, 12}, 4), parameter({12, 2}, 5), 2.0};
  Tensor x = matmul(random_tensor({n, 12}, seed), weight);
  x = rms_norm(lora_linear(x, weight.detach(), {}, std::span(&layer, 1)), gain, 1e-6);
  x = layer_norm(swiglu(x, x), gain, shift, 1e-6);
  const Tensor probabilities = softmax(contiguous(transpose(x, 0, 1)), static_cast<int>(seed % 2));
  const Tensor logs = log_softmax(x, 1);
  const Tensor best = add(sum(topk(x, 3).values), sum(topk(logs, 12).values));
  backward(add(best, sum(square(probabilities))));
  for (const Tensor& leaf : {weight, gain, shift, layer.a, layer.b}) {
    const std::vector<float> gradient = leaf.grad().to_vector<float>();
    for (const float number : gradient) ASSERT_TRUE(std::isfinite(number));
  }
}

/// What is alive after everything was given back.
struct Left {
  std::size_t reserved = 0, allocated = 0;
#if defined(CANDELA_EMULATED_METAL)
  std::map<std::string, std::int64_t> objects, foundation;
  std::size_t bytes = 0;
#endif
};

Left settled() {
  device_interface(metal()).synchronize();
  device_interface(metal()).allocator().trim();
  const MemoryStats stats = device_interface(metal()).allocator().stats();
  Left left;
  left.reserved = stats.reserved;
  left.allocated = stats.allocated;
#if defined(CANDELA_EMULATED_METAL)
  left.objects = emulator::live_objects();
  left.foundation = emulator::foundation_objects();
  left.bytes = emulator::allocated_bytes();
#endif
  return left;
}

/// CANDELA_STRESS_ROUNDS=N runs fewer, where each takes long (under sanitizers).
std::uint64_t rounds() {
  const char* wanted = std::getenv("CANDELA_STRESS_ROUNDS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 1000;
}

TEST_F(Stress, ThousandIterationsLeaveNothingBehind) {
#if defined(CANDELA_EMULATED_METAL)
  emulator::watch_foundation_objects();
#endif
  for (std::uint64_t seed = 0; seed < 14; ++seed) one_of_everything(seed);
  const Left before = settled();
  for (std::uint64_t seed = 0; seed < rounds(); ++seed) one_of_everything(seed);
  const Left after = settled();
  EXPECT_EQ(after.reserved, before.reserved);
  EXPECT_EQ(after.allocated, 0U);
#if defined(CANDELA_EMULATED_METAL)
  EXPECT_EQ(after.objects, before.objects);
  EXPECT_EQ(after.foundation, before.foundation);
  EXPECT_EQ(after.bytes, before.bytes);
#endif
}

}  // namespace
}  // namespace candela::metal_tests
