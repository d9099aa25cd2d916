#include <candela/autograd/backward.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/optimizer.h>
#include <candela/ops/reduce.h>

#include "metal/support.h"
#include "ops/composed.h"

namespace candela::metal_tests {
namespace {

Tensor wide(const Tensor& x) {
  return x.defined() ? cast(to_device(x.detach(), Device::cpu()), DType::F64) : x;
}

/// Two layers that share x, of 20 and 70 outputs, with adapters of rank 4 and 6, and between them one of 11
/// outputs without.
struct Layers {
  Tensor weight, bias;
  std::vector<LowRank> adapters;

  Tensor apply(const Tensor& x, const Tensor& lora_x = {}) const {
    return lora_linear(x, weight, bias, adapters, lora_x);
  }
  Tensor reference(const Tensor& x, const Tensor& lora_x = {}) const {
    return composed::lora_linear(x, weight, bias, adapters, lora_x);
  }
  Layers widened() const {
    Layers result{wide(weight), wide(bias), {}};
    for (const LowRank& adapter : adapters)
      result.adapters.push_back({wide(adapter.a), wide(adapter.b), adapter.scale, adapter.first_output});
    return result;
  }
};

Layers three_layers(DType dtype, DType adapter, Device device) {
  return {
      random_tensor({101, 24}, 1, dtype, device),
      random_tensor({101}, 2, dtype, device),
      {{random_tensor({4, 24}, 3, adapter, device), random_tensor({20, 4}, 4, adapter, device), 2.0, 0},
       {random_tensor({6, 24}, 6, adapter, device), random_tensor({70, 6}, 7, adapter, device), 0.5, 31}}};
}

class Lora : public MetalTest {};

TEST_F(Lora, ForwardMatchesTheReferenceInEveryMixOfDtypes) {
  for (const auto& [dtype, adapter] : {std::pair{DType::F32, DType::F32}, std::pair{DType::F16, DType::F16},
                                       std::pair{DType::F16, DType::F32}, std::pair{DType::BF16, DType::BF16},
                                       std::pair{DType::BF16, DType::F32}}) {
    const Tensor x = random_tensor({2, 5, 24}, 10, dtype);
    const Layers layers = three_layers(dtype, adapter, metal());
    EXPECT_LE(relative_error(layers.apply(x), layers.widened().reference(wide(x))), limit(dtype))
        << to_string(dtype) << " " << to_string(adapter);
  }
}

TEST_F(Lora, MpsChainAgainstFusedShaderAgainstCpu) {
  const Tensor x = random_tensor({65, 24}, 10);
  const Layers layers = three_layers(DType::F32, DType::F32, metal());
  const Tensor a = concat({layers.adapters[0].a, layers.adapters[1].a}, 0);
  const Tensor expected = layers.widened().reference(wide(x));
  for (const std::string& name : gpu_names(&KernelTable::lora_linear)) {
    const Tensor xa = full({65, 10}, NAN, DType::F32, metal());
    const Tensor y = full({65, 101}, NAN, DType::F32, metal());
    LoraLinearArgs args{x, x, layers.weight, layers.bias, y, a, xa, {}, 2, false};
    args.branches[0] = {layers.adapters[0].b, 0, 20, 0, 4, layers.adapters[0].scale};
    args.branches[1] = {layers.adapters[1].b, 31, 70, 4, 6, layers.adapters[1].scale};
    ASSERT_EQ(run_named(&KernelTable::lora_linear, name, args), "") << name;
    EXPECT_LE(relative_error(y, expected), 1e-5) << name;
  }
}

TEST_F(Lora, BothWaysAreBuilt) {
  EXPECT_NE(find_kernel(&KernelTable::lora_linear, "fused"), nullptr);
#if defined(CANDELA_MPS)
  EXPECT_NE(find_kernel(&KernelTable::lora_linear, "mps"), nullptr);
#else
  EXPECT_EQ(find_kernel(&KernelTable::lora_linear, "mps"), nullptr);
#endif
}

/// Gradients of x, lora_x and both adapters through the op on `device` with every GPU implementation, or the
/// reference.
std::vector<Tensor> gradients(DType dtype, DType adapter, bool separate, bool reference, Device device) {
  const auto place = [&](const Tensor& t) { return reference ? wide(t) : t; };
  Tensor x = place(random_tensor({9, 24}, 10, dtype, device)).set_requires_grad(true);
  Tensor lora_x;
  if (separate) lora_x = place(random_tensor({9, 24}, 11, dtype, device)).set_requires_grad(true);
  Layers layers = three_layers(dtype, adapter, device);
  if (reference) layers = layers.widened();
  for (LowRank& low : layers.adapters) {
    low.a.set_requires_grad(true);
    low.b.set_requires_grad(true);
  }
  const Tensor y = reference ? layers.reference(x, lora_x) : layers.apply(x, lora_x);
  backward(sum(mul(y, place(random_tensor({9, 101}, 20, dtype, device)))));
  std::vector<Tensor> result = {x.grad(), layers.adapters[0].a.grad(), layers.adapters[0].b.grad(),
                                layers.adapters[1].a.grad(), layers.adapters[1].b.grad()};
  if (separate) result.push_back(lora_x.grad());
  return result;
}

TEST_F(Lora, GradientsMatchTheReference) {
  for (const auto& [dtype, adapter] :
       {std::pair{DType::F32, DType::F32}, std::pair{DType::F16, DType::F32},
        std::pair{DType::BF16, DType::F32}, std::pair{DType::BF16, DType::BF16}}) {
    for (const bool separate : {false, true}) {
      const std::vector<Tensor> got = gradients(dtype, adapter, separate, false, metal());
      const std::vector<Tensor> expected = gradients(dtype, adapter, separate, true, Device::cpu());
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_LE(relative_error(got[i], expected[i]), limit(dtype))
            << to_string(dtype) << to_string(adapter) << separate << i;
      }
    }
  }
}

TEST_F(Lora, EveryGradientImplementationAgrees) {
  const Tensor x = random_tensor({9, 24}, 10);
  const Tensor weight = random_tensor({20, 24}, 1);
  const Tensor a = random_tensor({4, 24}, 3);
  const Tensor b = random_tensor({20, 4}, 4);
  const Tensor dy = random_tensor({9, 20}, 5);
  const Tensor xa = matmul(x, transpose(a, 0, 1));
  const Tensor dxa_expected = affine(matmul(dy, b), 2, 0);
  const std::vector<Tensor> expected = {add(matmul(dy, weight), matmul(dxa_expected, a)),
                                        matmul(transpose(dxa_expected, 0, 1), x),
                                        affine(matmul(transpose(dy, 0, 1), xa), 2, 0)};
  for (const std::string& name : gpu_names(&KernelTable::lora_linear_grad)) {
    const std::vector<Tensor> got = {full({9, 24}, NAN, DType::F32, metal()),
                                     full({4, 24}, NAN, DType::F32, metal()),
                                     full({20, 4}, NAN, DType::F32, metal())};
    const Tensor dxa = full({9, 4}, NAN, DType::F32, metal());
    LoraLinearGradArgs args{};
    args.forward = {x, x, weight, {}, {}, a, xa, {}, 1};
    args.forward.branches[0] = {b, 0, 20, 0, 4, 2.0};
    args.dy = dy;
    args.db[0] = got[2];
    args.dxa = dxa;
    args.dx = got[0];
    args.da = got[1];
    ASSERT_EQ(run_named(&KernelTable::lora_linear_grad, name, args), "") << name;
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_LE(relative_error(got[i], expected[i]), 1e-5) << name << " " << i;
  }
}

TEST_F(Lora, AStridedGradientIsCopiedOnce) {
  if (find_kernel(&KernelTable::lora_linear_grad, "mps") == nullptr)
    GTEST_SKIP() << "the own shader takes any strides";
  const Tensor weight = random_tensor({20, 24}, 1);
  const Tensor b = random_tensor({20, 4}, 4);
  const Tensor x = random_tensor({9, 24}, 10);
  const Tensor a = random_tensor({4, 24}, 3);
  // Every second column of a wider tensor: no stride is 1.
  const Tensor dy = random_tensor({9, 40}, 5).with_layout({{9, 20}, {40, 2}, 0});
  const auto zeroed = [](const Shape& shape) { return zeros(shape, DType::F32, metal()); };
  const Tensor xa = matmul(x, transpose(a, 0, 1));
  const auto run = [&](const Tensor& gradient) {
    std::vector<Tensor> got = {zeroed({9, 24}), zeroed({4, 24}), zeroed({20, 4}), zeroed({9, 4})};
    LoraLinearGradArgs args{};
    args.forward = {x, x, weight, {}, {}, a, xa, {}, 1};
    args.forward.branches[0] = {b, 0, 20, 0, 4, 2.0};
    args.dy = gradient;
    args.dx = got[0];
    args.da = got[1];
    args.db[0] = got[2];
    args.dxa = got[3];
    EXPECT_EQ(run_named(&KernelTable::lora_linear_grad, "mps", args), "");
    return got;
  };
  const std::vector<Tensor> expected = run(contiguous(dy));
  const Since since;
  const std::vector<Tensor> got = run(dy);
  EXPECT_EQ(since.now().contiguous_copies, 1U);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(values(got[i]), values(expected[i])) << i;
}

/// Which implementation the op runs for x [rows, 64] and a weight [outputs, 64].
std::string chosen(std::int64_t rows, std::int64_t outputs, DType dtype) {
  const Tensor weight = random_tensor({outputs, 64}, 1, dtype);
  const LowRank adapter{random_tensor({4, 64}, 2, dtype), random_tensor({outputs, 4}, 3, dtype), 1.0};
  const std::uint64_t before = runs_of(&KernelTable::lora_linear, "mps");
  lora_linear(random_tensor({rows, 64}, 4, dtype), weight, {}, std::span(&adapter, 1));
  return runs_of(&KernelTable::lora_linear, "mps") > before ? "mps" : "fused";
}

TEST_F(Lora, LargeProductsGoToMpsSmallOnesThroughTheFusedShader) {
#if defined(CANDELA_MPS)
  const std::string vendor = "mps";
#else
  const std::string vendor = "fused";
#endif
  EXPECT_EQ(chosen(64, 64, DType::F32), "fused");
  EXPECT_EQ(chosen(256, 1024, DType::F32), vendor) << "2 x 256 x 1024 x 64 FLOP";
  EXPECT_EQ(chosen(1, 64, DType::F32), vendor) << "a single token";
  EXPECT_EQ(chosen(256, 1024, DType::BF16), "fused") << "MPS has no bf16";
}

/// The losses of 50 AdamW steps that fit an adapter to a target map.
std::vector<double> fit(Device device, metal::Counters* counts) {
  const Tensor x = random_tensor({32, 16}, 1, DType::F32, device);
  const Tensor weight = random_tensor({12, 16}, 2, DType::F32, device, 0.25);
  const Tensor target = matmul(x, transpose(random_tensor({12, 16}, 3, DType::F32, device, 0.25), 0, 1));
  LowRank layer{random_tensor({8, 16}, 4, DType::F32, device, 0.25), zeros({12, 8}, DType::F32, device), 2.0};
  layer.a.set_requires_grad(true);
  layer.b.set_requires_grad(true);
  std::vector<Tensor> moments;
  for (const Tensor& parameter : {layer.a, layer.b, layer.a, layer.b})
    moments.push_back(zeros(parameter.shape(), DType::F32, device));
  AdamwOptions options;
  options.lr = 0.03;
  std::vector<Tensor> losses;
  const metal::Counters before = counts == nullptr ? metal::Counters{} : metal::counters(device);
  for (std::int64_t step = 1; step <= 50; ++step) {
    layer.a.set_grad({});
    layer.b.set_grad({});
    const Tensor difference = sub(lora_linear(x, weight, {}, std::span(&layer, 1)), target);
    const Tensor loss = mean(square(difference));
    backward(loss);
    adamw_step(layer.a, layer.a.grad(), moments[0], moments[2], options, step);
    adamw_step(layer.b, layer.b.grad(), moments[1], moments[3], options, step);
    losses.push_back(loss.detach());
  }
  if (counts != nullptr) {
    *counts = metal::counters(device);
    counts->waits -= before.waits;
    counts->host_runs -= before.host_runs;
  }
  std::vector<double> numbers;
  for (const Tensor& loss : losses) numbers.push_back(loss.item());
  return numbers;
}

TEST_F(Lora, FiftyStepsOfFittingConvergeAsOnTheCpu) {
  metal::Counters counts;
  const std::vector<double> on_gpu = fit(metal(), &counts);
  const std::vector<double> on_cpu = fit(Device::cpu(), nullptr);
  EXPECT_LT(on_gpu.back(), 0.2 * on_gpu.front());
  for (std::size_t i = 0; i < on_gpu.size(); ++i)
    EXPECT_NEAR(on_gpu[i], on_cpu[i], 1e-3 * on_cpu[i]) << "step " << i + 1;
  EXPECT_EQ(counts.host_runs, 0U) << "no op of the step may leave the GPU";
}

TEST_F(Lora, SameSeedSameBits) {
  EXPECT_EQ(fit(metal(), nullptr), fit(metal(), nullptr));
}

}  // namespace
}  // namespace candela::metal_tests
