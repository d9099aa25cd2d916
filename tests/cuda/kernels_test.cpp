#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

#include "backend/selector.h"
#include "cuda/gpu.h"

namespace candela {
namespace {

using test::Gpu;
using test::kCuda;

class CudaKernels : public Gpu {
 protected:
  Tensor random(const Shape& shape, DType dtype = DType::BF16) {
    return normal(shape, generator_, 0, 1, dtype, kCuda);
  }

 private:
  Generator generator_{11};
};

std::vector<float> values_of(const Tensor& x) {
  return cast(to_device(x, Device::cpu()), DType::F32).to_vector<float>();
}

/// The largest difference, as a share of the largest magnitude.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i])));
    largest = std::max(largest, static_cast<double>(std::abs(b[i])));
  }
  return std::isfinite(worst) ? worst / std::max(largest, 1e-30) : HUGE_VAL;
}

/// Every kernel of the list that takes `args`, by name.
template <class Args, class Visit>
void for_each_able(const KernelList<Args>& list, const Args& args, const Visit& visit) {
  for (const Kernel<Args>& kernel : list.kernels) {
    if (kernel.supports(args).empty()) visit(kernel);
  }
}

struct AttentionCase {
  std::int64_t batch, queries, keys, heads, key_heads, size;
  bool causal;
  std::int64_t window;
};

/// cuDNN, the flash kernel and the plain one: results, statistics handed to each other's gradients, and
/// gradients.
TEST_F(CudaKernels, AttentionAgreesWhateverComputesIt) {
  for (const AttentionCase& c :
       {AttentionCase{2, 130, 130, 4, 2, 64, true, 0}, AttentionCase{1, 200, 200, 4, 1, 128, true, 0},
        AttentionCase{1, 192, 192, 2, 2, 64, false, 0}, AttentionCase{1, 150, 150, 2, 1, 128, true, 40},
        AttentionCase{1, 70, 300, 2, 1, 96, true, 0}}) {
    const Tensor q = random({c.batch, c.queries, c.heads, c.size});
    const Tensor k = random({c.batch, c.keys, c.key_heads, c.size});
    const Tensor v = random({c.batch, c.keys, c.key_heads, c.size});
    const Tensor dout = random({c.batch, c.queries, c.heads, c.size});
    const double scale = 1 / std::sqrt(static_cast<double>(c.size));
    const KernelTable& kernels = backend(kCuda).kernels();
    std::vector<float> expected;
    std::vector<std::vector<float>> expected_grads;
    // The plain kernel is the last of the list: it goes first here.
    auto order = kernels.attention;
    std::reverse(order.kernels.begin(), order.kernels.end());
    auto grad_order = kernels.attention_grad;
    std::reverse(grad_order.kernels.begin(), grad_order.kernels.end());
    const auto empty_like = [](const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); };
    const Tensor out = empty_like(q);
    const Tensor top = Tensor::empty({c.batch, c.heads, c.queries}, DType::F32, kCuda);
    const Tensor total = Tensor::empty({c.batch, c.heads, c.queries}, DType::F32, kCuda);
    AttentionArgs args{};
    args.q = q;
    args.k = k;
    args.v = v;
    args.out = out;
    args.top = top;
    args.total = total;
    args.scale = scale;
    args.causal = c.causal;
    args.window = c.window;
    for_each_able(order, args, [&](const Kernel<AttentionArgs>& kernel) {
      launch(kernel, backend(kCuda), args);
      const std::vector<float> got = values_of(out);
      if (expected.empty()) expected = got;
      EXPECT_LE(distance(got, expected), 1e-2) << kernel.name;
      AttentionGradArgs grad{};
      grad.forward = args;
      const Tensor dq = empty_like(q);
      const Tensor dk = empty_like(k);
      const Tensor dv = empty_like(v);
      grad.dout = dout;
      grad.dq = dq;
      grad.dk = dk;
      grad.dv = dv;
      for_each_able(grad_order, grad, [&](const Kernel<AttentionGradArgs>& back) {
        launch(back, backend(kCuda), grad);
        const std::vector<std::vector<float>> grads = {values_of(dq), values_of(dk), values_of(dv)};
        if (expected_grads.empty()) expected_grads = grads;
        for (std::size_t i = 0; i < 3; ++i)
          EXPECT_LE(distance(grads[i], expected_grads[i]), 2e-2)
              << kernel.name << ", then " << back.name << ", " << i;
        launch(back, backend(kCuda), grad);
        EXPECT_EQ(values_of(dk), grads[1]) << back.name << " gives other bits the second time";
      });
    });
  }
}

/// The tensor core kernels of a group of adapters, and the chain of products.
TEST_F(CudaKernels, LoraAgreesWhateverComputesIt) {
  for (const DType adapter : {DType::F32, DType::BF16}) {
    for (const std::int64_t rank : {8, 16, 80}) {
      const std::int64_t rows = 200;
      const std::int64_t width = 136;
      const std::int64_t outputs[2] = {264, 72};
      const Tensor x = random({rows, width});
      const Tensor weight = random({outputs[0] + outputs[1], width});
      const Tensor a = random({2 * rank, width}, adapter);
      const Tensor b[2] = {random({outputs[0], rank}, adapter), random({outputs[1], rank}, adapter)};
      const Tensor y = Tensor::empty({rows, outputs[0] + outputs[1]}, DType::BF16, kCuda);
      const Tensor xa = Tensor::empty({rows, 2 * rank}, adapter, kCuda);
      LoraLinearArgs args{};
      args.x = x;
      args.lora_x = x;
      args.weight = weight;
      args.y = y;
      args.a = a;
      args.xa = xa;
      args.branch_count = 2;
      args.branches[0] = {b[0], 0, outputs[0], 0, rank, 0.5};
      args.branches[1] = {b[1], outputs[0], outputs[1], rank, rank, 2};
      std::vector<float> expected;
      std::vector<float> expected_low;
      int able = 0;
      auto order = backend(kCuda).kernels().lora_linear;
      std::reverse(order.kernels.begin(), order.kernels.end());
      for_each_able(order, args, [&](const Kernel<LoraLinearArgs>& kernel) {
        ++able;
        launch(kernel, backend(kCuda), args);
        const std::vector<float> got = values_of(y);
        const std::vector<float> low = values_of(xa);
        if (expected.empty()) expected = got;
        if (expected_low.empty()) expected_low = low;
        EXPECT_LE(distance(got, expected), 1e-2) << kernel.name << ", rank " << rank;
        EXPECT_LE(distance(low, expected_low), adapter == DType::F32 ? 1e-5 : 1e-2)
            << kernel.name << ", rank " << rank;
      });
      EXPECT_EQ(able, 2);
    }
  }
}

/// Work that is recorded runs again on what its inputs hold by then.
TEST_F(CudaKernels, ARecordingReadsItsInputsAnew) {
  const Tensor x = random({64, 64}, DType::F32);
  const Tensor out = Tensor::empty({64, 64}, DType::F32, kCuda);
  const auto work = [&] { copy_(out, silu(matmul(x, x))); };
  work();  // what is made once is made outside
  const auto recording = device_interface(kCuda).record(work);
  for (int i = 0; i < 3; ++i) {
    copy_(x, random({64, 64}, DType::F32));
    const std::vector<float> expected = values_of(silu(matmul(x, x)));
    fill_(out, 0);
    recording->replay();
    EXPECT_EQ(values_of(out), expected);
  }
}

}  // namespace
}  // namespace candela
