#include <candela/autograd/backward.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>

#include "metal/support.h"

namespace candela::metal_tests {
namespace {

struct Sizes {
  std::int64_t m, k, n;

  std::string name() const { return fmt::format("{}x{}x{}", m, k, n); }
  friend void PrintTo(const Sizes& shown, std::ostream* out) { *out << shown.name(); }
};

/// A tensor whose last two dimensions are [rows, columns], stored swapped where `transposed`.
Tensor matrix(std::int64_t rows, std::int64_t columns, bool transposed, std::uint64_t seed, DType dtype) {
  return transposed ? transpose(random_tensor({columns, rows}, seed, dtype), 0, 1)
                    : random_tensor({rows, columns}, seed, dtype);
}

/// Every GPU implementation on these operands against f64.
void check_product(const Tensor& a, const Tensor& b) {
  const auto m = static_cast<std::size_t>(a.size(0));
  const auto k = static_cast<std::size_t>(a.size(1));
  const auto n = static_cast<std::size_t>(b.size(1));
  const std::vector<double> expected = product(values(a), values(b), m, k, n);
  int ran = 0;
  for (const std::string& name : gpu_names(&KernelTable::matmul)) {
    const Tensor out = full({a.size(0), b.size(1)}, NAN, a.dtype(), metal());
    const std::string refusal = run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 1, 0});
    if (!refusal.empty()) continue;
    ++ran;
    EXPECT_LE(relative_error(values(out), expected), limit(a.dtype()))
        << name << " " << describe(a) << " x " << describe(b);
  }
  EXPECT_GE(ran, 1) << describe(a) << " x " << describe(b);
}

class Matmul : public MetalTest {};

TEST_F(Matmul, Basic) {
  const Tensor a = Tensor::from_values<float>({1, 2, 3, 4}, {2, 2}, metal());
  const Tensor b = Tensor::from_values<float>({5, 6, 7, 8}, {2, 2}, metal());
  EXPECT_EQ(matmul(a, b).to_vector<float>(), (std::vector<float>{19, 22, 43, 50}));
}

TEST_F(Matmul, CorrectAgainstF64) {
  const Tensor a = random_tensor({512, 256}, 1);
  const Tensor b = random_tensor({256, 512}, 2);
  const std::vector<double> expected = product(values(a), values(b), 512, 256, 512);
  EXPECT_LE(relative_error(values(matmul(a, b)), expected), 1e-5);
  check_product(a, b);
}

TEST_F(Matmul, DimensionMismatchIsAnError) {
  const Tensor a = random_tensor({4, 3}, 1);
  const Tensor b = random_tensor({4, 3}, 2);
  try {
    matmul(a, b);
    FAIL() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "matmul: inner dimensions must match: a is [4, 3], b is [4, 3]");
  }
}

class MatmulShapes : public MetalTest, public testing::WithParamInterface<Sizes> {};

TEST_P(MatmulShapes, AllTransposesAndDtypes) {
  const Sizes size = GetParam();
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        check_product(matrix(size.m, size.k, ta, 11, dtype), matrix(size.k, size.n, tb, 12, dtype));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MatmulShapes,
                         testing::Values(Sizes{1, 1, 1}, Sizes{1, 64, 48}, Sizes{33, 7, 1}, Sizes{8, 8, 8},
                                         Sizes{17, 31, 5}, Sizes{64, 64, 64}, Sizes{65, 63, 66},
                                         Sizes{100, 3, 130}, Sizes{2, 200, 2}),
                         [](const auto& param_info) { return param_info.param.name(); });

TEST_F(Matmul, AlphaBetaAndBias) {
  const Tensor a = random_tensor({10, 12}, 1);
  const Tensor b = random_tensor({12, 9}, 2);
  const Tensor c = random_tensor({10, 9}, 3);
  const Tensor bias = random_tensor({9}, 4);
  const std::vector<double> ab = product(values(a), values(b), 10, 12, 9);
  for (const std::string& name : gpu_names(&KernelTable::matmul)) {
    const Tensor out = clone(c);
    ASSERT_EQ(run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 0.5, -2}), "") << name;
    std::vector<double> expected = values(c);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = 0.5 * ab[i] - 2 * expected[i];
    EXPECT_LE(relative_error(values(out), expected), 1e-5) << name;

    const Tensor biased = full({10, 9}, NAN, DType::F32, metal());
    ASSERT_EQ(run_named(&KernelTable::matmul, name, MatmulArgs{a, b, biased, bias, 1, 0}), "") << name;
    const std::vector<double> row = values(bias);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = ab[i] + row[i % 9];
    EXPECT_LE(relative_error(values(biased), expected), 1e-5) << name;
  }
}

/// The op on the Metal device against the same op on the CPU in f64.
void check_against_cpu(const Tensor& a, const Tensor& b) {
  const auto wide = [](const Tensor& x) { return cast(to_device(x, Device::cpu()), DType::F64); };
  EXPECT_LE(relative_error(matmul(a, b), matmul(wide(a), wide(b))), limit(a.dtype()))
      << describe(a) << " x " << describe(b);
}

TEST_F(Matmul, BatchedAndBroadcast) {
  check_against_cpu(random_tensor({3, 5, 7}, 1), random_tensor({3, 7, 4}, 2));
  check_against_cpu(random_tensor({3, 5, 7}, 1), random_tensor({7, 4}, 2));
  check_against_cpu(random_tensor({5, 7}, 1), random_tensor({6, 7, 4}, 2));
  check_against_cpu(random_tensor({2, 3, 5, 7}, 1), random_tensor({2, 3, 7, 4}, 2));
  check_against_cpu(random_tensor({2, 3, 5, 7}, 1), random_tensor({2, 1, 7, 4}, 2));
  check_against_cpu(random_tensor({2, 1, 5, 7}, 1, DType::F16), random_tensor({1, 3, 7, 4}, 2, DType::F16));
  check_against_cpu(random_tensor({4, 1, 7}, 1), random_tensor({4, 7, 9}, 2));
}

TEST_F(Matmul, BatchOfHeads) {
  // [B, T, H, D] seen as [B, H, T, D], as attention does: rows are H * D apart.
  const Tensor q = transpose(random_tensor({2, 6, 3, 8}, 1), 1, 2);
  const Tensor k = transpose(random_tensor({2, 5, 3, 8}, 2), 1, 2);
  const Since since;
  check_against_cpu(q, transpose(k, -2, -1));
  EXPECT_EQ(since.now().contiguous_copies, 0U) << "strided matrices need no copy";
}

#if defined(CANDELA_MPS)

/// A batch that no MPS batch holds is encoded matrix by matrix: a few are worth it, many are the own
/// shader's.
TEST_F(Matmul, BatchesOfManyPartsGoToTheOwnShader) {
  const auto refusal = [](const Tensor& a, const Tensor& b) {
    const Tensor out = full({a.size(0), a.size(1), a.size(2), b.size(3)}, NAN, DType::F32, metal());
    return find_kernel(&KernelTable::matmul, "mps")->supports(MatmulArgs{a, b, out, {}, 1, 0});
  };
  // Queries of heads with one key head: [B, H, T, D] x [B, 1, D, S], B * H products.
  const auto queries = [](std::int64_t batch, std::int64_t heads) {
    return random_tensor({batch, heads, 6, 8}, 1);
  };
  const auto keys = [](std::int64_t batch, std::int64_t heads) {
    return random_tensor({batch, 5, 8}, 2).with_layout({{batch, heads, 8, 5}, {40, 0, 1, 8}, 0});
  };
  EXPECT_EQ(refusal(transpose(random_tensor({2, 6, 4, 8}, 1), 1, 2), keys(2, 4)), "");
  EXPECT_EQ(refusal(transpose(random_tensor({3, 6, 4, 8}, 1), 1, 2), keys(3, 4)),
            "MPS would take this batch in more than 8 parts");
  // One batch, or one product of more rows per index: few parts however many matrices.
  EXPECT_EQ(refusal(queries(20, 3), random_tensor({20, 3, 8, 5}, 3)), "");
  EXPECT_EQ(refusal(queries(8, 30), keys(8, 30)), "");
  const std::uint64_t native = runs_of(&KernelTable::matmul, "gemv");
  check_against_cpu(transpose(random_tensor({3, 6, 4, 8}, 1), 1, 2), keys(3, 4));
  EXPECT_EQ(runs_of(&KernelTable::matmul, "gemv"), native + 1) << "six rows each";
}

#endif

TEST_F(Matmul, OffsetsAndSlicesNeedNoCopy) {
  const Tensor whole = random_tensor({40, 50}, 1);
  const Tensor a = slice(slice(whole, 0, 3, 20), 1, 5, 30);
  const Tensor b = slice(slice(random_tensor({40, 50}, 2), 0, 10, 35), 1, 1, 8);
  const Since since;
  check_against_cpu(a, b);
  check_against_cpu(transpose(b, 0, 1), transpose(a, 0, 1));
  EXPECT_EQ(since.now().contiguous_copies, 0U);
}

TEST_F(Matmul, OtherLayoutsAreCopiedOnceAndCounted) {
  if (find_kernel(&KernelTable::matmul, "mps") == nullptr) GTEST_SKIP() << "the own shader takes any strides";
  // Every second column: no stride is 1.
  const Tensor wide = random_tensor({6, 20}, 1);
  const Tensor a = wide.with_layout({{6, 10}, {20, 2}, 0});
  const Tensor b = random_tensor({10, 4}, 2);
  const Since since;
  const Tensor out = full({6, 4}, NAN, DType::F32, metal());
  ASSERT_EQ(run_named(&KernelTable::matmul, "mps", MatmulArgs{a, b, out, {}, 1, 0}), "");
  EXPECT_LE(relative_error(values(out), product(values(a), values(b), 6, 10, 4)), 1e-5);
  EXPECT_EQ(since.now().contiguous_copies, 1U);
  EXPECT_EQ(since.now().contiguous_bytes, 240U);
}

TEST_F(Matmul, TransposedResult) {
  const Tensor a = random_tensor({6, 10}, 1);
  const Tensor b = random_tensor({10, 4}, 2);
  for (const std::string& name : gpu_names(&KernelTable::matmul)) {
    const Tensor stored = full({4, 6}, NAN, DType::F32, metal());
    ASSERT_EQ(run_named(&KernelTable::matmul, name, MatmulArgs{a, b, transpose(stored, 0, 1), {}, 1, 0}), "")
        << name;
    EXPECT_LE(relative_error(values(transpose(stored, 0, 1)), product(values(a), values(b), 6, 10, 4)), 1e-5)
        << name;
  }
}

/// Batches whose operands step on by other amounts than the results, which lie column by column.
TEST_F(Matmul, TransposedResultsInBatches) {
  const auto check = [](const Tensor& a, const Tensor& b) {
    const auto wide = [](const Tensor& x) {
      return cast(contiguous(to_device(x, Device::cpu())), DType::F64);
    };
    for (const std::string& name : gpu_names(&KernelTable::matmul)) {
      const Tensor stored = full({a.size(0), b.size(2), a.size(1)}, NAN, DType::F32, metal());
      const Tensor out = transpose(stored, 1, 2);
      ASSERT_EQ(run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 1, 0}), "") << name;
      EXPECT_LE(relative_error(out, matmul(wide(a), wide(b))), 1e-5)
          << name << " " << describe(a) << " x " << describe(b);
    }
  };
  // A step of 8 is no multiple of b's rows, one of 6 none of a's.
  check(random_tensor({40}, 1).with_layout({{3, 2, 2}, {8, 3, 1}, 0}),
        random_tensor({40}, 2).with_layout({{3, 2, 2}, {6, 2, 1}, 0}));
  for (const Sizes size :
       {Sizes{3, 2, 5}, Sizes{5, 3, 2}, Sizes{4, 7, 3}, Sizes{1, 6, 4}, Sizes{6, 1, 4}, Sizes{4, 6, 1}})
    check(slice(random_tensor({3, size.m, size.k + 3}, 1), 2, 1, size.k + 1),
          random_tensor({3, size.k, size.n}, 2));
}

TEST_F(Matmul, SixteenBitOperandsWithF32Results) {
  for (const DType dtype : {DType::F16, DType::BF16}) {
    const Tensor a = random_tensor({20, 30}, 1, dtype);
    const Tensor b = random_tensor({30, 10}, 2, dtype);
    const Tensor out = full({20, 10}, NAN, DType::F32, metal());
    ASSERT_EQ(run_named(&KernelTable::matmul, "simdgroup", MatmulArgs{a, b, out, {}, 1, 0}), "");
    EXPECT_LE(relative_error(values(out), product(values(a), values(b), 20, 30, 10)), 1e-5);
  }
}

TEST_F(Matmul, NanAndInfinitySpreadAlongTheirRowOnly) {
  std::vector<float> numbers(70 * 20, 1);
  numbers[3 * 20 + 5] = NAN;
  numbers[66 * 20 + 1] = INFINITY;
  const Tensor a = Tensor::from_values(numbers, {70, 20}, metal());
  const Tensor b = ones({20, 70}, DType::F32, metal());
  for (const std::string& name : gpu_names(&KernelTable::matmul)) {
    if (name == "gemv") continue;  // takes no 70 rows; its own test is below
    const Tensor out = zeros({70, 70}, DType::F32, metal());
    ASSERT_EQ(run_named(&KernelTable::matmul, name, MatmulArgs{a, b, out, {}, 1, 0}), "");
    const std::vector<float> got = out.to_vector<float>();
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::size_t row = i / 70;
      if (row == 3) {
        EXPECT_TRUE(std::isnan(got[i]));
      } else {
        EXPECT_EQ(got[i], row == 66 ? INFINITY : 20.0F) << name << " at " << i;
      }
    }
  }
}

TEST_F(Matmul, Gradients) {
  const auto run = [](Device device) {
    Tensor a = random_tensor({2, 6, 5}, 1, DType::F32, device).set_requires_grad(true);
    Tensor b = random_tensor({5, 7}, 2, DType::F32, device).set_requires_grad(true);
    Tensor c = random_tensor({2, 6, 7}, 3, DType::F32, device).set_requires_grad(true);
    backward(matmul(a, b, c, 0.5, 2), random_tensor({2, 6, 7}, 4, DType::F32, device));
    return std::vector<Tensor>{a.grad(), b.grad(), c.grad()};
  };
  const std::vector<Tensor> on_gpu = run(metal());
  const std::vector<Tensor> on_cpu = run(Device::cpu());
  for (std::size_t i = 0; i < on_gpu.size(); ++i) EXPECT_LE(relative_error(on_gpu[i], on_cpu[i]), 1e-5) << i;
}

TEST_F(Matmul, PreferenceIsVisible) {
  const std::string preferred = gpu_names(&KernelTable::matmul).front();
#if defined(CANDELA_MPS)
  EXPECT_EQ(preferred, "mps");
#else
  EXPECT_EQ(preferred, "gemv");
#endif
  const std::uint64_t before = runs_of(&KernelTable::matmul, preferred);
  matmul(random_tensor({4, 4}, 1), random_tensor({4, 4}, 2));
  EXPECT_EQ(runs_of(&KernelTable::matmul, preferred), before + 1);
  const std::uint64_t tiles = runs_of(&KernelTable::matmul, "simdgroup");
  matmul(random_tensor({20, 4}, 1, DType::BF16), random_tensor({4, 20}, 2, DType::BF16));
  EXPECT_EQ(runs_of(&KernelTable::matmul, "simdgroup"), tiles + 1) << "bf16 goes to the native shader";
}

/// Few rows, or few columns, of every dtype; B by rows and by columns, aligned for vector loads and not.
TEST_F(Matmul, FewRowsOrColumns) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    for (const auto& [few, k, many] : {std::array<std::int64_t, 3>{1, 300, 140},
                                       {2, 7, 5},
                                       {5, 64, 33},
                                       {8, 513, 256},
                                       {16, 40, 129},
                                       {11, 260, 1}}) {
      const Tensor a = random_tensor({few, k}, 1, dtype);
      const Tensor by_rows = random_tensor({k, many}, 2, dtype);
      const Tensor by_columns = transpose(random_tensor({many, k}, 3, dtype), 0, 1);
      for (const Tensor& b : {by_rows, by_columns}) {
        const std::vector<double> expected =
            product(values(a), values(contiguous(b)), static_cast<std::size_t>(few),
                    static_cast<std::size_t>(k), static_cast<std::size_t>(many));
        const Tensor out = full({few, many}, NAN, dtype, metal());
        ASSERT_EQ(run_named(&KernelTable::matmul, "gemv", MatmulArgs{a, b, out, {}, 1, 0}), "");
        EXPECT_LE(relative_error(values(out), expected), limit(dtype)) << few << " " << k << " " << many;
        const Tensor bias = random_tensor({many}, 4, dtype);
        const Tensor sum = full({few, many}, 1, dtype, metal());
        ASSERT_EQ(run_named(&KernelTable::matmul, "gemv", MatmulArgs{a, b, sum, bias, 0.5, 2}), "");
        std::vector<double> with_bias = expected;
        const std::vector<double> added = values(bias);
        for (std::size_t i = 0; i < with_bias.size(); ++i)
          with_bias[i] = 0.5 * with_bias[i] + 2 + added[i % added.size()];
        EXPECT_LE(relative_error(values(sum), with_bias), limit(dtype));
        // The same product turned around: few columns.
        const Tensor across = full({many, few}, NAN, dtype, metal());
        ASSERT_EQ(run_named(&KernelTable::matmul, "gemv",
                            MatmulArgs{transpose(b, 0, 1), transpose(a, 0, 1), across, {}, 1, 0}),
                  "");
        EXPECT_LE(relative_error(values(contiguous(transpose(across, 0, 1))), expected), limit(dtype));
      }
    }
  }
}

TEST_F(Matmul, FewRowsKeepNanInTheirRow) {
  const Tensor b = ones({20, 70}, DType::F32, metal());
  std::vector<float> numbers(5 * 20, 1);
  numbers[3 * 20 + 5] = NAN;
  const Tensor out = zeros({5, 70}, DType::F32, metal());
  ASSERT_EQ(run_named(&KernelTable::matmul, "gemv",
                      MatmulArgs{Tensor::from_values(numbers, {5, 20}, metal()), b, out, {}, 1, 0}),
            "");
  const std::vector<float> got = out.to_vector<float>();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(std::isnan(got[i]), i / 70 == 3) << i;
}

/// A batch against one weight is one product of more rows: 4 x 6 of them are too many.
TEST_F(Matmul, ABatchThatFoldsIntoManyRowsIsNoGemv) {
  const Kernel<MatmulArgs>* gemv = find_kernel(&KernelTable::matmul, "gemv");
  ASSERT_NE(gemv, nullptr);
  const Tensor weight = random_tensor({30, 40}, 1);
  const auto refusal = [&](std::int64_t batch) {
    const Tensor a = random_tensor({batch, 6, 30}, 2);
    const Tensor shared = weight.with_layout({{batch, 30, 40}, {0, 40, 1}, 0});
    return gemv->supports(MatmulArgs{a, shared, zeros({batch, 6, 40}, DType::F32, metal()), {}, 1, 0});
  };
  EXPECT_EQ(refusal(2), "");
  EXPECT_EQ(refusal(4), "takes at most 16 rows or columns, against an operand with neighbours");
}

}  // namespace
}  // namespace candela::metal_tests
