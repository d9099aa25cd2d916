#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include <candela/core/error.h>
#include <candela/core/parallel.h>
#include <candela/core/process.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

#include "ops/op_cases.h"
#include "support/thread_count.h"

#if defined(__SANITIZE_ADDRESS__)
#define CANDELA_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CANDELA_ADDRESS_SANITIZER
#endif
#endif

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(matmul, Forward, testing::ValuesIn(tested("matmul")), test_name);
INSTANTIATE_TEST_SUITE_P(matmul, Backward, testing::ValuesIn(tested("matmul")), test_name);
INSTANTIATE_TEST_SUITE_P(matmul, ReferenceGradient, testing::ValuesIn(with_reference_gradient("matmul")),
                         test_name);

TEST(Matmul, NamesTheShapesThatDoNotFit) {
  const Tensor a = Tensor::empty({3, 4});
  try {
    matmul(a, Tensor::empty({5, 2}));
    FAIL() << "expected InvalidArgument";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("[3, 4]"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[5, 2]"), std::string::npos) << error.what();
  }
}

TEST(Matmul, BetaZeroDoesNotReadTheResult) {
  const Tensor a = Tensor::from_values(std::vector<float>(100 * 30, 1.0F), {100, 30});
  const Tensor b = Tensor::from_values(std::vector<float>(30 * 20, 1.0F), {30, 20});
  const Tensor c =
      Tensor::from_values(std::vector<float>(100 * 20, std::numeric_limits<float>::quiet_NaN()), {100, 20});
  for (const float value : matmul(a, b, c, 1, 0).to_vector<float>()) ASSERT_EQ(value, 30.0F);
}

/// What is kept of one product must not serve another one: NaN equals no factor.
TEST(Matmul, FactorsThatAreNotFiniteAreNotTakenForOthers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor a = ones({64, 64});
  const Tensor c = ones({64, 64});
  for (const float value : matmul(a, a, {}, 2, 0).to_vector<float>()) ASSERT_EQ(value, 128);
  for (const float value : matmul(a, a, {}, nan, 0).to_vector<float>()) ASSERT_TRUE(std::isnan(value));
  for (const float value : matmul(a, a, {}, 1e300, 0).to_vector<float>()) ASSERT_TRUE(std::isinf(value));
  // As f32 it is 0: what is infinite times 0 is NaN.
  const Tensor infinite = full({64, 64}, std::numeric_limits<float>::infinity());
  for (const float value : matmul(a, infinite, {}, 1e-300, 0).to_vector<float>())
    ASSERT_TRUE(std::isnan(value));
  for (const float value : matmul(a, a, c, 1, 3).to_vector<float>()) ASSERT_EQ(value, 67);
  for (const float value : matmul(a, a, c, 1, nan).to_vector<float>()) ASSERT_TRUE(std::isnan(value));
}

TEST(Matmul, TheNumberOfThreadsMayChangeBetweenProducts) {
  Generator generator(3);
  const Tensor a = normal({200, 300}, generator);
  const Tensor b = normal({300, 150}, generator);
  const test::ThreadCount one(1);
  const std::vector<float> expected = matmul(a, b).to_vector<float>();
  for (const int threads : {3, 1, 2}) {
    set_thread_count(threads);
    const std::vector<float> got = matmul(a, b).to_vector<float>();
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-3) << threads;
  }
}

TEST(Matmul, ThreadsThatMultiplyAtOnceGetTheirOwnResults) {
  Generator generator(7);
  for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
    const Tensor a = normal({130, 200}, generator, 0, 1, dtype);
    const Tensor b = normal({200, 96}, generator, 0, 1, dtype);
    const std::vector<float> expected = cast(matmul(a, b), DType::F32).to_vector<float>();
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) wrong += cast(matmul(a, b), DType::F32).to_vector<float>() != expected;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0) << to_string(dtype);
  }
}

/// Batches of many lengths: the primitives of each shape must not pile up.
TEST(Matmul, ProductsOfManyShapesKeepLittle) {
#if defined(CANDELA_ADDRESS_SANITIZER)
  GTEST_SKIP() << "the address sanitizer keeps what is freed";
#endif
  const auto multiply = [](std::int64_t m) { matmul(ones({m, 128}), ones({128, 96})); };
  for (std::int64_t m = 16; m < 80; ++m) multiply(m);
  const std::size_t before = process_memory().resident;
  for (std::int64_t m = 80; m < 680; ++m) multiply(m);
  EXPECT_LT(process_memory().resident, before + (std::size_t{12} << 20U));
}

}  // namespace candela::cases
