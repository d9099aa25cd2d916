#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/autograd/checkpoint.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>

#include "support/errors.h"

namespace candela {
namespace {

using test::error_of;

using Values = std::vector<float>;

/// Two layers with dropout between them, cut into two results: y = tanh(dropout(x w)) w and its square.
struct Network {
  Tensor x = Tensor::from_values(Values{0.1F, -0.2F, 0.3F, 0.4F, 0.5F, -0.6F}, {2, 3});
  Tensor w = Tensor::from_values(Values{1, 2, 3, -1, 0.5F, 0.25F, 0.75F, -2, 1}, {3, 3});
  Generator random{7};
  int runs = 0;

  Network() { w.set_requires_grad(true); }

  CheckpointedBlock block() {
    return [this](std::span<const Tensor> inputs) -> std::vector<Tensor> {
      ++runs;
      const Tensor y = matmul(tanh(dropout(matmul(inputs[0], w), 0.5, random)), w);
      return {y, square(y)};
    };
  }

  /// The loss, then the gradients of x (if it requires one) and w.
  std::vector<Values> losses_and_gradients(bool checkpointed) {
    w.set_grad({});
    x.set_grad({});
    random.set_offset(0);
    const std::vector<Tensor> inputs = {x};
    // A second call of the block moves the generator on between the first one and its replay.
    const std::vector<Tensor> first =
        checkpointed ? checkpoint("block", block(), inputs, &random) : block()(inputs);
    const std::vector<Tensor> next = {add(first[0], first[1])};
    const std::vector<Tensor> second =
        checkpointed ? checkpoint("block", block(), next, &random) : block()(next);
    const Tensor loss = sum(add(second[0], exp(second[1])));
    backward(loss);
    std::vector<Values> result = {loss.to_vector<float>(), w.grad().to_vector<float>()};
    if (x.requires_grad()) result.push_back(x.grad().to_vector<float>());
    EXPECT_EQ(random.offset(), 12U);
    return result;
  }
};

TEST(Checkpoint, GivesTheBitsOfTheBlockItself) {
  for (const bool tracked : {true, false}) {
    Network network;
    network.x.set_requires_grad(tracked);
    const auto plain = network.losses_and_gradients(false);
    EXPECT_EQ(network.runs, 2);
    EXPECT_EQ(network.losses_and_gradients(true), plain);
    EXPECT_EQ(network.runs, 6) << "each block runs once more on the way back";
  }
}

TEST(Checkpoint, KeepsNothingButItsInputs) {
  Network network;
  network.x.set_requires_grad(true);
  std::weak_ptr<Storage> memory;
  const std::vector<Tensor> results = checkpoint(
      "block",
      [&](std::span<const Tensor> inputs) -> std::vector<Tensor> {
        const Tensor kept_by_tanh = matmul(inputs[0], network.w);
        memory = kept_by_tanh.storage();
        return {sum(exp(tanh(kept_by_tanh)))};
      },
      std::vector{network.x});
  EXPECT_TRUE(memory.expired());
  backward(results[0]);
  EXPECT_TRUE(network.x.grad().defined());
}

TEST(Checkpoint, WithoutGradientsItIsTheBlock) {
  Network network;
  const NoGrad guard;
  const auto results = checkpoint("block", network.block(), std::vector{network.x}, &network.random);
  EXPECT_FALSE(results[0].requires_grad());
  EXPECT_EQ(network.runs, 1);
}

TEST(Checkpoint, ABlockWithoutParametersOnAConstantRecordsNothing) {
  const Tensor x = ones({2});
  const auto results = checkpoint(
      "block", [](std::span<const Tensor> in) -> std::vector<Tensor> { return {exp(in[0])}; },
      std::vector{x});
  EXPECT_FALSE(results[0].requires_grad());
}

TEST(Checkpoint, MayReturnItsInputAndTakeUndefinedOnes) {
  Tensor x = Tensor::from_values(Values{1, 2}, {2});
  x.set_requires_grad(true);
  const auto results = checkpoint(
      "block",
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        EXPECT_FALSE(in[1].defined());
        return {in[0], square(in[0])};
      },
      std::vector{x, Tensor()});
  EXPECT_FALSE(x.grad_node());
  backward(sum(add(results[0], results[1])));
  EXPECT_EQ(x.grad().to_vector<float>(), (Values{3, 5}));
}

TEST(Checkpoint, AParameterOrInputChangedMeanwhileIsNoticed) {
  for (const bool parameter : {true, false}) {
    Network network;
    network.x.set_requires_grad(true);
    const auto results = checkpoint("block", network.block(), std::vector{network.x}, &network.random);
    const Tensor loss = sum(results[0]);
    fill_((parameter ? network.w : network.x).detach(), 1);
    EXPECT_THROW(backward(loss), InvalidArgument);
  }
}

TEST(Checkpoint, MayLieInsideAnother) {
  Network network;
  network.x.set_requires_grad(true);
  const Tensor plain = network.block()(std::vector{network.x})[0];
  backward(sum(plain));
  const Values expected = network.x.grad().to_vector<float>();
  network.x.set_grad({});
  network.random.set_offset(0);
  const auto outer = [&](std::span<const Tensor> inputs) {
    return checkpoint("inner", network.block(), inputs, &network.random);
  };
  backward(sum(checkpoint("outer", outer, std::vector{network.x}, &network.random)[0]));
  EXPECT_EQ(network.x.grad().to_vector<float>(), expected);
}

TEST(Checkpoint, AnUndefinedResultIsAnError) {
  EXPECT_EQ(error_of<Error>([] {
              checkpoint("broken", [](std::span<const Tensor>) { return std::vector<Tensor>(1); }, {});
            }),
            "checkpoint: broken gave an undefined result");
}

}  // namespace
}  // namespace candela
