#include <functional>
#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/lora.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/optimizer.h>
#include <candela/ops/reduce.h>
#include <candela/ops/rope.h>
#include <candela/ops/softmax.h>

#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;

using Values = std::vector<float>;

Tensor leaf(const Values& values, const Shape& shape) {
  Tensor result = Tensor::from_values(values, shape);
  result.set_requires_grad(true);
  return result;
}

// Gradients never vanish silently: what has none says so at the forward call.

TEST(GradientsDoNotVanish, WritingATrackedTensorIntoAnotherIsRefused) {
  const Tensor target = zeros({2});
  const Tensor tracked = leaf({1, 2}, {2});
  EXPECT_THROW(copy_(target, tracked), Unsupported);
  EXPECT_THROW(add_(target, tracked), Unsupported);
  EXPECT_THROW(copy_(target, exp(tracked)), Unsupported);
  EXPECT_NO_THROW(copy_(target, tracked.detach()));
  const NoGrad guard;
  EXPECT_NO_THROW(copy_(target, tracked));
  EXPECT_NO_THROW(add_(target, tracked));
  EXPECT_EQ(target.to_vector<float>(), (Values{2, 4}));
}

TEST(GradientsDoNotVanish, CastingATrackedTensorToIntegersIsRefused) {
  const Tensor tracked = leaf({1, 2}, {2});
  EXPECT_THROW(cast(tracked, DType::I32), Unsupported);
  EXPECT_NO_THROW(cast(tracked.detach(), DType::I32));
  EXPECT_TRUE(cast(tracked, DType::BF16).requires_grad());
}

TEST(GradientsDoNotVanish, EmbeddingsInF64HaveTheirGradient) {
  Tensor weight = cast(Tensor::from_values(Values{1, 2, 3, 4, 5, 6}, {3, 2}), DType::F64);
  weight.set_requires_grad(true);
  backward(sum(embedding(weight, Tensor::from_values(std::vector<std::int32_t>{2, 0, 2}, {3}))));
  EXPECT_EQ(weight.grad().to_vector<double>(), (std::vector<double>{1, 1, 0, 0, 2, 2}));
}

// A gradient is the leaf's own: writing into one changes no other tensor.

TEST(GradientsAreOwn, OperandsOfOneOpDoNotShare) {
  const Tensor a = leaf({1, 2}, {2});
  const Tensor b = leaf({3, 4}, {2});
  backward(sum(add(a, b)));
  EXPECT_NE(a.grad().storage(), b.grad().storage());
  fill_(a.grad(), 7);
  EXPECT_EQ(b.grad().to_vector<float>(), (Values{1, 1}));
}

TEST(GradientsAreOwn, TheSeedStaysTheCallers) {
  const Tensor a = leaf({1, 2}, {2});
  const Tensor seed = Tensor::from_values(Values{5, 6}, {2});
  backward(a, seed);
  EXPECT_NE(a.grad().storage(), seed.storage());
  const Tensor b = leaf({1, 2}, {2});
  backward(reshape(b, {2, 1}), reshape(seed, {2, 1}));
  EXPECT_NE(b.grad().storage(), seed.storage());
  fill_(seed, 0);
  EXPECT_EQ(a.grad().to_vector<float>(), (Values{5, 6}));
  EXPECT_EQ(b.grad().to_vector<float>(), (Values{5, 6}));
}

TEST(GradientsAreOwn, PartsOfOneGradientDoNotShare) {
  const Tensor a = leaf({1, 2}, {1, 2});
  const Tensor b = leaf({3, 4}, {1, 2});
  backward(sum(square(concat({a, b}, 0))));
  EXPECT_NE(a.grad().storage(), b.grad().storage());
  EXPECT_EQ(b.grad().to_vector<float>(), (Values{6, 8}));
}

TEST(GradientsAreOwn, AFreshGradientIsNotCopied) {
  const Tensor a = leaf(Values(1000, 1.5F), {1000});
  const Tensor loss = sum(square(a));
  Allocator& allocator = device_interface(Device::cpu()).allocator();
  const std::uint64_t before = allocator.stats().allocations;
  backward(loss);
  // The seed, its broadcast to a's shape, and the gradient itself.
  EXPECT_EQ(allocator.stats().allocations, before + 3);
}

// Kernels read a gradient as the dtype of the tensor that it belongs to.

TEST(GradientsMatch, SeedsOfAnotherDtypeOrDeviceAreRefused) {
  const Tensor a = leaf({1, 2}, {2});
  EXPECT_EQ(error_of<InvalidArgument>([&] { backward(exp(a), ones({2}, DType::BF16)); }),
            "backward: seed must be f32 [2] on cpu to match the loss; got bf16 [2] on cpu");
  EXPECT_THROW(backward(exp(a), ones({3})), InvalidArgument);
  EXPECT_THROW(backward(exp(a), ones({2}, DType::F32, Device::plan())), InvalidArgument);
  EXPECT_THROW(backward(a, ones({2}, DType::F64)), InvalidArgument);
}

TEST(GradientsMatch, AnOpThatGivesAnotherDtypeIsAnError) {
  const Tensor a = leaf({1, 2}, {2});
  Tensor y = ones({2});
  record("broken", {a}, {&y},
         [](std::span<const Tensor> grads) -> std::vector<Tensor> { return {cast(grads[0], DType::BF16)}; });
  EXPECT_EQ(error_of<Error>([&] { backward(y); }),
            "backward: broken gave a gradient bf16 [2] on cpu for input 0, f32 [2] on cpu");
}

TEST(GradientsMatch, AGradientOfAnotherDtypeCannotBeSet) {
  const Tensor a = leaf({1, 2}, {2});
  EXPECT_THROW(a.set_grad(ones({2}, DType::BF16)), InvalidArgument);
  EXPECT_THROW(a.set_grad(ones({3})), InvalidArgument);
  EXPECT_NO_THROW(a.set_grad(ones({2})));
  EXPECT_NO_THROW(a.set_grad(Tensor()));
}

// What an op keeps for its gradient must be as it was when the gradient runs.

TEST(SavedTensors, OverwritingOneIsNoticed) {
  const Tensor a = leaf({1, 2}, {2});
  const Tensor b = Tensor::from_values(Values{3, 4}, {2});
  const Tensor loss = sum(mul(a, b));
  fill_(b, 100);
  EXPECT_EQ(error_of<InvalidArgument>([&] { backward(loss); }),
            "backward: a tensor that mul needs for its gradient (f32 [2] on cpu) was changed in place after "
            "the forward pass; change a clone() of it, or after backward()");
}

TEST(SavedTensors, EveryWayOfWritingInPlaceCounts) {
  const std::vector<std::function<void(const Tensor&)>> writes = {
      [](const Tensor& x) { fill_(x, 1); },
      [](const Tensor& x) { add_(x, ones(x.shape())); },
      [](const Tensor& x) { copy_(x, ones(x.shape())); },
      [](const Tensor& x) { fill_(slice(x, 0, 0, 1), 1); },
      [](const Tensor& x) { adamw_step(x, ones({2}), zeros({2}), zeros({2}), {}, 1); },
      [](const Tensor& x) { adamw_step(ones({2}), ones({2}), x, zeros({2}), {}, 1); },
      [](const Tensor& x) { adamw_step(ones({2}), ones({2}), zeros({2}), x, {}, 1); },
  };
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const Tensor a = leaf({1, 2}, {2});
    const Tensor b = Tensor::from_values(Values{3, 4}, {2});
    const Tensor loss = sum(div(a, b));
    writes[i](b);
    EXPECT_THROW(backward(loss), InvalidArgument) << "write " << i;
  }
}

TEST(SavedTensors, WhatNoGradientReadsMayChange) {
  const Tensor a = leaf({1, 2}, {2});
  const Tensor b = Tensor::from_values(Values{3, 4}, {2});
  const Tensor loss = sum(add(a, b));
  fill_(b, 100);
  EXPECT_NO_THROW(backward(loss));
  const Tensor product = sum(mul(a, b));  // only b is read on the way to a
  fill_(a.detach(), 9);
  EXPECT_NO_THROW(backward(product));
  EXPECT_EQ(a.grad().to_vector<float>(), (Values{101, 101}));
}

TEST(SavedTensors, EveryOpThatKeepsOneNoticesIt) {
  const Tensor x = Tensor::from_values(Values{1, 2, 3, 4}, {2, 2});
  const Tensor w = Tensor::from_values(Values{5, 6, 7, 8}, {2, 2});
  const Tensor v = Tensor::from_values(Values{1, 2}, {2});
  const Tensor ids = Tensor::from_values(std::vector<std::int32_t>{1, 0}, {2});
  const LowRank adapter{w, w};
  RopeConfig config;
  config.rotary_dim = 2;
  const RopeTable table = rope_table(config, 4);
  struct Entry {
    const char* name;
    std::function<Tensor()> forward;
    Tensor tracked, changed;
  };
  const std::vector<Entry> entries = {
      {"exp", [&] { return exp(x); }, x, x},
      {"maximum", [&] { return maximum(x, w); }, x, w},
      {"swiglu", [&] { return swiglu(x, w); }, x, w},
      {"max", [&] { return max(x); }, x, x},
      {"sum_squares", [&] { return sum_squares(x); }, x, x},
      {"matmul", [&] { return matmul(x, w); }, x, w},
      {"linear", [&] { return linear(x, w); }, x, w},
      {"linear weight", [&] { return linear(x, w); }, w, x},
      {"rms_norm", [&] { return rms_norm(x, v, 1e-5); }, x, v},
      {"add_rms_norm", [&] { return add_rms_norm(x, w, v, 1e-5).second; }, x, v},
      {"layer_norm", [&] { return layer_norm(x, v, {}, 1e-5); }, x, x},
      {"embedding", [&] { return embedding(x, ids); }, x, ids},
      {"gather",
       [&] {
         return gather(x, 1, reshape(ids, {2, 1}));
       },
       x, ids},
      {"cross_entropy", [&] { return cross_entropy(x, ids); }, x, x},
      {"cross_entropy targets", [&] { return cross_entropy(x, ids); }, x, ids},
      {"lora_linear", [&] { return lora_linear(x, w, {}, std::span(&adapter, 1)); }, x, w},
      {"rope",
       [&] {
         return rope(reshape(x, {1, 2, 1, 2}), table, ids);
       },
       x, ids},
      {"rope table",
       [&] {
         return rope(reshape(x, {1, 2, 1, 2}), table, ids);
       },
       x, table.cos},
  };
  for (const Entry& entry : entries) {
    Tensor tracked = entry.tracked;
    tracked.set_requires_grad(true);
    const Tensor loss = sum(entry.forward());
    tracked.set_requires_grad(false);
    copy_(entry.changed, clone(entry.changed));
    EXPECT_THROW(backward(loss), InvalidArgument) << entry.name;
  }
  for (const auto& op : {softmax, log_softmax}) {  // they keep their result
    Tensor tracked = x;
    tracked.set_requires_grad(true);
    const Tensor y = op(tracked, -1);
    const Tensor loss = sum(y);
    tracked.set_requires_grad(false);
    fill_(y.detach(), 0.5);
    EXPECT_THROW(backward(loss), InvalidArgument);
  }
}

// A node keeps what its gradient reads, and nothing else.

TEST(Graph, AnInputThatNoGradientReadsIsFreed) {
  const Tensor a = leaf({1, 2}, {2});
  Tensor x = exp(a);
  const std::weak_ptr<Storage> memory = x.storage();
  const Tensor loss = sum(add(x, ones({2})));
  x = Tensor();
  EXPECT_TRUE(memory.expired());
  backward(loss);
  EXPECT_EQ(a.grad().to_vector<float>(), exp(a.detach()).to_vector<float>());
}

TEST(Graph, ANormIsComputedAgainWhereItsConsumerReadsIt) {
  const Tensor weight = Tensor::from_values(Values{1, 2}, {2});
  const Tensor head = leaf({1, -1, 2, 0.5F}, {2, 2});
  const auto gradients = [&](bool keep) {
    const Tensor x = leaf({1, 2, 3, 4}, {2, 2});
    head.set_grad({});
    Tensor normed = rms_norm(x, weight, 1e-5);
    if (keep) normed.set_recipe(nullptr);
    const std::weak_ptr<Storage> memory = normed.storage();
    const Tensor loss = sum(linear(normed, head));
    normed = Tensor();
    EXPECT_EQ(memory.expired(), !keep);
    backward(loss);
    return std::pair(x.grad().to_vector<float>(), head.grad().to_vector<float>());
  };
  EXPECT_EQ(gradients(false), gradients(true));
}

TEST(Graph, WhatARecipeReadsMustStayAsItWas) {
  const Tensor gate = Tensor::from_values(Values{1, 2}, {1, 2});
  const Tensor up = leaf({3, 4}, {1, 2});
  const Tensor head = leaf({1, -1, 2, 0.5F}, {2, 2});
  const Tensor loss = sum(linear(swiglu(gate, up), head));
  fill_(gate, 9);
  EXPECT_THROW(backward(loss), InvalidArgument);
}

TEST(Graph, SeveralResultsGiveTheGradientOfTheirWeightedSum) {
  const Tensor a = leaf({1, 2}, {2});
  const Tensor shared = square(a);
  const std::vector<Tensor> results = {mul(shared, Tensor::from_values(Values{3, 4}, {2})), sum(shared), a};
  const std::vector<Tensor> seeds = {ones({2}), full({1}, 10.0), Tensor()};
  const std::vector<Tensor> scalars = {results[0], reshape(results[1], {1}), results[2]};
  backward(scalars, seeds);
  // d/da of 3 a0^2 + 4 a1^2 + 10 (a0^2 + a1^2) + a0 + a1.
  EXPECT_EQ(a.grad().to_vector<float>(), (Values{27, 57}));
  EXPECT_EQ(error_of<InvalidArgument>([&] {
              backward(std::vector<Tensor>{square(a), a}, std::vector<Tensor>{Tensor()});
            }),
            "backward: needs one seed for each of the 2 results, or none; got 1");
}

TEST(Graph, LongChainsAreTornDownWithoutRecursion) {
  constexpr int kNodes = 200'000;
  const auto chain = [](const Tensor& start) {
    Tensor x = start;
    for (int i = 0; i < kNodes; ++i) x = reshape(x, {1});
    return x;
  };
  const Tensor a = leaf({2}, {1});
  { const Tensor dropped = chain(a); }
  backward(chain(a));
  EXPECT_EQ(a.grad().to_vector<float>(), Values{1});
}

TEST(Graph, AdaptersThatSeeADetachedInputSendItNoGradient) {
  const Tensor x = leaf({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor weight = Tensor::from_values(Values{1, -1, 2, 0.5F, 3, -2}, {2, 3});
  const Tensor a = Tensor::from_values(Values{0.5F, 1, -1}, {1, 3});
  const Tensor b = Tensor::from_values(Values{2, 3}, {2, 1});
  const LowRank adapter{a, b};
  backward(sum(lora_linear(x, weight, {}, std::span(&adapter, 1), x.detach())));
  // Only the way through the weight: the column sums of it.
  EXPECT_EQ(x.grad().to_vector<float>(), (Values{1.5F, 2, 0, 1.5F, 2, 0}));
}

}  // namespace
}  // namespace candela
