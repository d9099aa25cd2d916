// No result may depend on the order in which the threads of a group run: forward, reversed and shuffled give
// the same bits on the stand-in.
#if defined(CANDELA_EMULATED_METAL)

#include <functional>
#include <kernel.h>

#include <candela/autograd/backward.h>
#include <candela/core/device.h>
#include <candela/ops/attention.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/reduce.h>
#include <candela/ops/softmax.h>
#include <candela/ops/topk.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

class Order : public MetalTest {
 protected:
  void TearDown() override {
    emulator::set_options({});
    MetalTest::TearDown();
  }

  /// `work` gives everything that is compared.
  static void expect_same_bits(const std::function<std::vector<Tensor>()>& work) {
    std::vector<std::vector<float>> first;
    emulator::Options options;
    for (const auto& [order, seed] :
         {std::pair{emulator::Order::Forward, 0}, std::pair{emulator::Order::Reverse, 0},
          std::pair{emulator::Order::Shuffled, 1}, std::pair{emulator::Order::Shuffled, 2}}) {
      options.order = order;
      options.seed = static_cast<std::uint64_t>(seed);
      emulator::set_options(options);
      std::vector<std::vector<float>> got;
      for (const Tensor& tensor : work()) got.push_back(cast(tensor, DType::F32).to_vector<float>());
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << "order " << static_cast<int>(order) << " seed " << seed;
    }
  }
};

TEST_F(Order, AttentionWithItsGradients) {
  for (const std::int64_t size : {24, 64, 200}) {
    AttentionOptions options;
    options.cu_seqlens = Tensor::from_values(std::vector<std::int32_t>{0, 9, 50}, {3}, metal());
    expect_same_bits([&] {
      const Tensor q = random_tensor({1, 50, 4, size}, 1).set_requires_grad(true);
      const Tensor k = random_tensor({1, 50, 2, size}, 2).set_requires_grad(true);
      const Tensor v = random_tensor({1, 50, 2, size}, 3).set_requires_grad(true);
      const Tensor out = attention(q, k, v, options);
      backward(out, random_tensor({1, 50, 4, size}, 4));
      return std::vector<Tensor>{out.detach(), q.grad(), k.grad(), v.grad()};
    });
  }
}

TEST_F(Order, LossesGathersAndReductions) {
  const Tensor targets = Tensor::from_values(std::vector<std::int32_t>{3, 0, 60, 2, 2}, {5}, metal());
  expect_same_bits([&] {
    const Tensor x = random_tensor({5, 40}, 1).set_requires_grad(true);
    const Tensor weight = random_tensor({70, 40}, 2).set_requires_grad(true);
    const Tensor loss = linear_cross_entropy(x, weight, targets);
    backward(loss);
    const Tensor logits = random_tensor({5, 700}, 3);
    const Tensor rows = embedding(weight.detach(), targets);
    const TopkResult best = topk(logits, 20);
    return std::vector<Tensor>{loss.detach(),
                               x.grad(),
                               weight.grad(),
                               rows,
                               best.values,
                               cross_entropy(logits, targets),
                               sum(logits, {1}),
                               softmax(logits, 0),
                               rms_norm(logits, ones({700}, DType::F32, metal()), 1e-5)};
  });
}

TEST_F(Order, Products) {
  expect_same_bits([&] {
    std::vector<Tensor> results;
    for (const std::int64_t rows : {1, 7, 16, 70}) {
      for (const DType dtype : {DType::F32, DType::BF16}) {
        const Tensor a = random_tensor({rows, 300}, 1, dtype);
        const Tensor b = random_tensor({300, 132}, 2, dtype);
        for (const char* name : {"gemv", "simdgroup"}) {
          const Tensor out = zeros({rows, 132}, dtype, metal());
          if (run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 1, 0}).empty())
            results.push_back(out);
        }
      }
    }
    return results;
  });
}

}  // namespace
}  // namespace candela::metal_tests

#endif
