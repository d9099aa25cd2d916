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
    LoraLinear layer;
    layer.weight = full({5, 33}, 0.5, DType::F32, device);
    const std::vector<Tensor> y = lora_linear(x, std::span(&layer, 1), lora_x);
    backward(y[0], ones({6, 5}, DType::F32, device));
    EXPECT_FALSE(lora_x.grad().defined()) << to_string(device);
    EXPECT_EQ(x.grad().to_vector<float>(), std::vector<float>(std::size_t{6} * 33, 2.5F))
        << to_string(device);
  }
}

TEST(LoraLinear, TakesAtMostEightLayers) {
  const Tensor x = ones({2, 3});
  LoraLinear layer;
  layer.weight = ones({4, 3});
  std::vector<LoraLinear> layers(8, layer);
  EXPECT_EQ(lora_linear(x, layers).size(), 8U);
  layers.push_back(layer);
  EXPECT_THROW(lora_linear(x, layers), InvalidArgument);
  EXPECT_THROW(lora_linear(x, {}), InvalidArgument);
}

}  // namespace candela::cases
