#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/lora.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(lora, Forward, testing::ValuesIn(tested("lora")), test_name);
INSTANTIATE_TEST_SUITE_P(lora, Backward, testing::ValuesIn(tested("lora")), test_name);
INSTANTIATE_TEST_SUITE_P(lora, ReferenceGradient, testing::ValuesIn(with_reference_gradient("lora")),
                         test_name);

TEST(LoraLinear, WhatNoAdapterSeesGetsNoGradient) {
  for (const Device device : available_devices()) {
    Tensor x = ones({6, 33}, DType::F32, device);
    Tensor lora_x = ones({6, 33}, DType::F32, device);
    x.set_requires_grad(true);
    lora_x.set_requires_grad(true);
    const Tensor weight = full({5, 33}, 0.5, DType::F32, device);
    const Tensor y = lora_linear(x, weight, {}, {}, lora_x);
    backward(y, ones({6, 5}, DType::F32, device));
    EXPECT_FALSE(lora_x.grad().defined()) << to_string(device);
    EXPECT_EQ(x.grad().to_vector<float>(), std::vector<float>(std::size_t{6} * 33, 2.5F))
        << to_string(device);
  }
}

TEST(LoraLinear, TakesAtMostEightAdapters) {
  const Tensor x = ones({2, 3});
  const Tensor weight = ones({9, 3});
  std::vector<LowRank> adapters;
  for (std::int64_t i = 0; i < 9; ++i) adapters.push_back({ones({1, 3}), ones({1, 1}), 1, i});
  EXPECT_EQ(lora_linear(x, weight, {}, std::span(adapters).first(8)).shape(), (Shape{2, 9}));
  EXPECT_THROW(lora_linear(x, weight, {}, adapters), InvalidArgument);
}

TEST(LoraLinear, AdaptersMustLieInOrderWithinTheOutputs) {
  const Tensor x = ones({2, 3});
  const Tensor weight = ones({9, 3});
  const auto at = [](std::int64_t first, std::int64_t outputs) {
    return LowRank{ones({1, 3}), ones({outputs, 1}), 1, first};
  };
  EXPECT_NO_THROW(lora_linear(x, weight, {}, std::vector{at(0, 4), at(4, 5)}));
  EXPECT_THROW(lora_linear(x, weight, {}, std::vector{at(0, 4), at(3, 5)}), InvalidArgument);
  EXPECT_THROW(lora_linear(x, weight, {}, std::vector{at(4, 5), at(0, 4)}), InvalidArgument);
  EXPECT_THROW(lora_linear(x, weight, {}, std::vector{at(5, 5)}), InvalidArgument);
  EXPECT_THROW(lora_linear(x, weight, {}, std::vector{at(-1, 5)}), InvalidArgument);
}

}  // namespace candela::cases
