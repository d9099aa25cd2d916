// Kernels on buffers that hold their tensors and nothing more. The allocator rounds blocks up, so that a
// shader which goes a little too far would stay within its block and pass every other test. On the stand-in
// such an access is a fault; on a Mac Metal's shader validation ends the process, given
// MTL_SHADER_VALIDATION_ABORT_ON_FAULT=1 (docs/mps.md).
#include <array>
#include <cstring>

#include <candela/core/device.h>

#include "backend/metal/objc/device.h"
#include "metal/support.h"
#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif

namespace candela::metal_tests {
namespace {

/// Uninitialised memory of exactly the tensor's size.
Tensor exact(const Shape& shape, DType dtype = DType::F32) {
  const std::size_t bytes = static_cast<std::size_t>(numel(shape)) * size_of(dtype);
  metal::objc::Buffer buffer = metal::objc::Device::system_default().new_buffer(bytes);
  void* const contents = buffer.contents();
  return Tensor::from_storage(
      std::make_shared<Storage>(metal(), MemoryBlock{contents, buffer.detach(), bytes},
                                [](const MemoryBlock& block) { metal::objc::Buffer::adopt(block.native); }),
      Layout::contiguous(shape), dtype);
}

/// A copy of the tensor in such memory.
Tensor exact(const Tensor& tensor) {
  const Tensor host = contiguous(to_device(tensor, Device::cpu()));
  const Tensor copy = exact(tensor.shape(), tensor.dtype());
  std::memcpy(copy.storage()->data(), host.storage()->data(),
              static_cast<std::size_t>(host.numel()) * size_of(host.dtype()));
  return copy;
}

class Bounds : public MetalTest {
 protected:
  /// Every GPU implementation of the list that takes the arguments; MetalTest reports what went out of
  /// bounds.
  template <class Args>
  static void run_all(KernelList<Args> KernelTable::*list, const Args& args) {
    int ran = 0;
    for (const std::string& name : gpu_names(list)) {
      if (run_named(list, name, args).empty()) ++ran;
      EXPECT_NO_THROW(device_interface(metal()).synchronize())
          << (backend(metal()).kernels().*list).op << " " << name;
    }
    EXPECT_GE(ran, 1) << (backend(metal()).kernels().*list).op;
  }
  static constexpr DType kDtypes[] = {DType::F32, DType::F16, DType::BF16};
  /// Of a row: less than a simdgroup, no multiple of one, more than a threadgroup has threads.
  static constexpr std::int64_t kWidths[] = {1, 7, 33, 100, 1031};
};

TEST_F(Bounds, Matmul) {
  for (const DType dtype : kDtypes) {
    for (const auto& [m, k, n] :
         {std::array<std::int64_t, 3>{1, 1, 1}, {3, 5, 7}, {65, 17, 66}, {1, 100, 63}}) {
      const Tensor a = exact(random_tensor({m, k}, 1, dtype));
      const Tensor b = exact(random_tensor({k, n}, 2, dtype));
      const Tensor bias = exact(random_tensor({n}, 3, dtype));
      run_all(&KernelTable::matmul, MatmulArgs{a, b, exact({m, n}, dtype), {}, 1, 0});
      run_all(&KernelTable::matmul, MatmulArgs{a, b, exact({m, n}, dtype), bias, 1, 0});
      const Tensor turned = exact(random_tensor({n, k}, 4, dtype));
      run_all(&KernelTable::matmul, MatmulArgs{a, transpose(turned, 0, 1), exact({m, n}, dtype), {}, 1, 0});
    }
    run_all(&KernelTable::matmul, MatmulArgs{exact(random_tensor({3, 4, 5}, 1, dtype)),
                                             exact(random_tensor({3, 5, 6}, 2, dtype)),
                                             exact({3, 4, 6}, dtype),
                                             {},
                                             1,
                                             0});
  }
}

TEST_F(Bounds, SoftmaxAndTopk) {
  for (const DType dtype : kDtypes) {
    for (const std::int64_t width : kWidths) {
      const Tensor x = exact(random_tensor({3, width}, 1, dtype));
      for (const bool log : {false, true}) {
        for (const int dim : {0, 1}) {
          run_all(&KernelTable::softmax, SoftmaxArgs{x, exact({3, width}, dtype), dim, log});
          run_all(&KernelTable::softmax_grad, SoftmaxGradArgs{x, x, exact({3, width}, dtype), dim, log});
        }
      }
      const std::int64_t k = std::min<std::int64_t>(width, 5);
      const Tensor indices = exact({3, k}, DType::I32);
      run_all(&KernelTable::topk, TopkArgs{x, exact({3, k}, dtype), indices, k});
      run_all(&KernelTable::gather_grad,
              GatherGradArgs{exact(random_tensor({3, k}, 2, dtype)), indices, exact({3, width}), 1});
    }
  }
}

TEST_F(Bounds, Norms) {
  for (const DType dtype : kDtypes) {
    for (const std::int64_t width : kWidths) {
      const Tensor x = exact(random_tensor({5, width}, 1, dtype));
      const Tensor weight = exact(random_tensor({width}, 2, dtype));
      const Tensor rstd = exact({5});
      const Tensor mean = exact({5});
      const auto result = [&] { return exact({5, width}, dtype); };
      run_all(&KernelTable::rms_norm, RmsNormArgs{x, x, weight, result(), result(), rstd, 1e-6});
      run_all(&KernelTable::rms_norm_grad,
              RmsNormGradArgs{x, weight, rstd, x, {}, result(), exact({width}), 1e-6});
      run_all(&KernelTable::layer_norm, LayerNormArgs{x, weight, weight, result(), mean, rstd, 1e-6});
      run_all(&KernelTable::layer_norm_grad,
              LayerNormGradArgs{x, weight, mean, rstd, x, result(), exact({width}), exact({width})});
    }
  }
}

TEST_F(Bounds, Elementwise) {
  for (const DType dtype : kDtypes) {
    for (const std::int64_t width : kWidths) {
      const Tensor x = exact(random_tensor({3, width}, 1, dtype));
      const auto result = [&] { return exact({3, width}, dtype); };
      run_all(&KernelTable::unary, UnaryArgs{UnaryOp::Gelu, x, result()});
      run_all(&KernelTable::unary_grad, UnaryGradArgs{UnaryOp::Gelu, x, x, result()});
      run_all(&KernelTable::binary, BinaryArgs{BinaryOp::Add, x, x, result()});
      run_all(&KernelTable::swiglu, SwigluArgs{x, x, result()});
      run_all(&KernelTable::copy, CopyArgs{x, exact({3, width}, DType::F32)});
      run_all(&KernelTable::copy, CopyArgs{transpose(x, 0, 1), exact({width, 3}, dtype)});
      run_all(&KernelTable::fill, FillArgs{result(), 3});
      run_all(&KernelTable::reduce, ReduceArgs{ReduceOp::Sum, x, exact({3, 1}, dtype)});
      run_all(&KernelTable::reduce, ReduceArgs{ReduceOp::Sum, x, exact({1, width}, dtype)});
      const auto state = [&] { return exact(random_tensor({3, width}, 5)); };
      run_all(&KernelTable::adamw,
              AdamwArgs{state(), state(), state(), exact(full({3, width}, 1, DType::F32, metal())),
                        exact(full({kAdamwFactors}, 1, DType::F32, metal())), 0.9, 0.99, 1e-8});
      const auto number = [&] { return exact(full({1}, 1, DType::F32, metal())); };
      run_all(&KernelTable::adamw_factors,
              AdamwFactorsArgs{number(), number(), number(), number(), exact({kAdamwFactors}, DType::F32),
                               0.9, 0.99, 0.1, 1});
    }
  }
}

TEST_F(Bounds, GatesRandomAndRope) {
  for (const DType dtype : kDtypes) {
    for (const std::int64_t width : kWidths) {
      const Tensor x = exact(random_tensor({3, width}, 1, dtype));
      const auto result = [&] { return exact({3, width}, dtype); };
      run_all(&KernelTable::swiglu_grad, SwigluGradArgs{x, x, x, result(), result()});
      run_all(&KernelTable::geglu, GegluArgs{UnaryOp::GeluTanh, x, x, result()});
      run_all(&KernelTable::geglu_grad, GegluGradArgs{UnaryOp::Gelu, x, x, x, result(), result()});
      run_all(&KernelTable::uniform, UniformArgs{result(), 7, 1026, 0, 1, 0, 1});
      run_all(&KernelTable::normal, NormalArgs{result(), 7, 1027, 0, 1});
      run_all(&KernelTable::dropout, DropoutArgs{x, result(), 7, 1025, 0.5});
      run_all(&KernelTable::argmax, ArgmaxArgs{x, exact({3, 1}, DType::I64), 1});
      run_all(&KernelTable::argmax, ArgmaxArgs{x, exact({1, width}, DType::I64), 0});
    }
    const Tensor heads = exact(random_tensor({2, 3, 2, 7}, 1, dtype));
    const Tensor angles = exact(random_tensor({5, 3}, 2));
    const Tensor positions = exact(Tensor::from_values(std::vector<std::int32_t>{0, 4, 1, 2, 3, 4}, {2, 3}));
    run_all(&KernelTable::rope, RopeArgs{heads, angles, angles, positions, exact({2, 3, 2, 7}, dtype)});
  }
}

TEST_F(Bounds, GatherAndLoss) {
  for (const DType dtype : kDtypes) {
    for (const std::int64_t width : kWidths) {
      const Tensor weight = exact(random_tensor({5, width}, 1, dtype));
      const Tensor ids = exact(Tensor::from_values(std::vector<std::int32_t>{4, 0, 4}, {3}));
      run_all(&KernelTable::embedding, EmbeddingArgs{weight, ids, exact({3, width}, dtype)});
      run_all(&KernelTable::embedding_grad,
              EmbeddingGradArgs{exact(random_tensor({3, width}, 2, dtype)), ids, exact({5, width})});
      const Tensor picks = exact(Tensor::from_values(std::vector<std::int64_t>{0, 0, 0, 0, 0}, {5, 1}));
      run_all(&KernelTable::gather, GatherArgs{weight, picks, exact({5, 1}, dtype), 1});
      const Tensor targets = exact(Tensor::from_values(std::vector<std::int64_t>{0, 0, 0, -100, 0}, {5}));
      const Tensor lse = exact({5});
      run_all(&KernelTable::cross_entropy, CrossEntropyArgs{weight, targets, exact({5}), lse, -100});
      run_all(&KernelTable::cross_entropy_grad,
              CrossEntropyGradArgs{weight, targets, lse, exact(random_tensor({5}, 3)),
                                   exact({5, width}, dtype), -100});
    }
  }
}

TEST_F(Bounds, Attention) {
  for (const DType dtype : kDtypes) {
    for (const std::int64_t size : {1, 33, 64, 100, 256, 320}) {
      const auto heads = [&](std::int64_t rows, std::int64_t count, std::uint64_t seed) {
        return exact(random_tensor({1, rows, count, size}, seed, dtype));
      };
      const Tensor q = heads(9, 2, 1);
      const Tensor k = heads(11, 1, 2);
      const Tensor out = exact({1, 9, 2, size}, dtype);
      const Tensor top = exact({1, 2, 9});
      const Tensor total = exact({1, 2, 9});
      const AttentionArgs args{q, k, k, out, top, total, {}, {}, 0.3, true};
      run_all(&KernelTable::attention, args);
      run_all(&KernelTable::attention_grad,
              AttentionGradArgs{args, q, exact({1, 9, 2, size}, dtype), exact({1, 11, 1, size}, dtype),
                                exact({1, 11, 1, size}, dtype)});
    }
  }
}

TEST_F(Bounds, Lora) {
  for (const auto& [rows, width, outputs, rank] :
       {std::array<std::int64_t, 4>{1, 7, 5, 2}, {17, 33, 66, 3}, {70, 16, 65, 8}}) {
    for (const DType dtype : kDtypes) {
      const Tensor x = exact(random_tensor({rows, width}, 1, dtype));
      const Tensor a = exact(random_tensor({rank, width}, 2, dtype));
      const Tensor weight = exact(random_tensor({outputs, width}, 3, dtype));
      const Tensor bias = exact(random_tensor({outputs}, 4, dtype));
      const Tensor b = exact(random_tensor({outputs, rank}, 5, dtype));
      const Tensor xa = exact({rows, rank}, dtype);
      const Tensor y = exact({rows, outputs}, dtype);
      LoraLinearArgs args{};
      args.x = x;
      args.lora_x = x;
      args.a = a;
      args.xa = xa;
      args.weight = weight;
      args.bias = bias;
      args.y = y;
      args.branch_count = 1;
      args.branches[0] = {b, 0, outputs, 0, rank, 2.0};
      run_all(&KernelTable::lora_linear, args);
      const Tensor dxa = exact({rows, rank}, dtype);
      const Tensor dx = exact({rows, width}, dtype);
      const Tensor da = exact({rank, width}, dtype);
      const Tensor db = exact({outputs, rank}, dtype);
      LoraLinearGradArgs grad{};
      grad.forward = args;
      grad.dy = y;
      grad.db[0] = db;
      grad.dxa = dxa;
      grad.dx = dx;
      grad.da = da;
      run_all(&KernelTable::lora_linear_grad, grad);
    }
  }
}

#if defined(CANDELA_EMULATED_METAL)

/// What the tests above rely on.
TEST_F(Bounds, AnAccessBeyondTheTensorIsNoticed) {
  const Tensor x = exact({100});
  TensorArg longer = x;
  longer.shape[0] = 101;
  FillArgs args{longer, 1};
  ASSERT_EQ(run_named(&KernelTable::fill, "native", args), "");
  EXPECT_THROW(device_interface(metal()).synchronize(), DeviceError);
  EXPECT_EQ(emulator::take_faults().size(), 1U);
}

#endif

}  // namespace
}  // namespace candela::metal_tests
