// Shaders that are right: what they compute.

#include "harness.h"
#include "shaders/args.h"

namespace shader_test {
namespace {

using metal::half;

TEST(ShaderRun, Saxpy) {
  for (const char* name : {"saxpy", "saxpy4"}) {
    const std::uint32_t n = 1000, width = std::string_view(name) == "saxpy" ? 1 : 4;
    std::vector<float> x = random_values(n, 1), y = random_values(n, 2);
    const std::vector<float> before = y;
    Dispatch(name).bind(0, x).bind(1, y).value(2, 2.5f).threads({n / width}, {64});
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], 2.5f * x[i] + before[i]);
  }
}

TEST(ShaderRun, TiledMatmul) {
  for (const auto& [m, n, k] :
       {std::array{64u, 48u, 32u}, std::array{33u, 17u, 5u}, std::array{1u, 1u, 1u}}) {
    std::vector<float> a = random_values(m * k, 1), b = random_values(k * n, 2), c(m * n, NAN);
    Dispatch("matmul_tiled")
        .bind(0, a)
        .bind(1, b)
        .bind(2, c)
        .value(3, shader_args::Matmul{m, n, k, 1.0f})
        .groups({(n + 15) / 16, (m + 15) / 16}, {16, 16});
    expect_close(c, product(a, b, m, n, k), 1e-6);
  }
}

TEST(ShaderRun, RmsNorm) {
  const std::uint32_t rows = 64, columns = 1024;
  std::vector<float> x = random_values(rows * columns, 1), weight = random_values(columns, 2),
                     y(rows * columns, NAN);
  Dispatch run("rms_norm");
  run.bind(0, x).bind(1, weight).bind(2, y).value(3, shader_args::Norm{columns, 1e-6f});
  run.groups({rows}, {256});
  std::vector<double> expected(y.size());
  for (std::size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i)
      sum += static_cast<double>(x[row * columns + i]) * x[row * columns + i];
    const double scale = 1 / std::sqrt(sum / columns + 1e-6);
    for (std::size_t i = 0; i < columns; ++i)
      expected[row * columns + i] = x[row * columns + i] * scale * weight[i];
  }
  expect_close(y, expected, 1e-6);
  RecordProperty("milliseconds", std::to_string(best_milliseconds([&] { run.groups({rows}, {256}); })));
}

/// Rows of 32 floats all begin in bank 0: an 8 x 8 matrix of them takes 8 cycles where 2 would do.
TEST(ShaderRun, CountsWhatAKernelReadsAndItsBankConflicts) {
  constexpr std::uint32_t kSize = 64;
  std::vector<float> a(kSize * kSize, 1);
  std::vector<float> b = a;
  std::vector<float> c(kSize * kSize);
  emulator::Options options;
  options.traffic = true;
  emulator::set_options(options);
  emulator::take_traffic("matmul_simdgroup_f32");
  Dispatch run("matmul_simdgroup_f32");
  run.bind(0, a).bind(1, b).bind(2, c).value(3, shader_args::Matmul{kSize, kSize, kSize, 1.0f});
  run.groups({2, 2, 1}, {128, 1, 1});
  emulator::set_options({});
  const emulator::Traffic traffic = emulator::take_traffic("matmul_simdgroup_f32");
  EXPECT_EQ(traffic.buffers[0].bytes, 2 * kSize * kSize * sizeof(float)) << "once for each column of groups";
  EXPECT_EQ(traffic.buffers[0].accesses, 2U * kSize * kSize);
  EXPECT_EQ(traffic.buffers[2].bytes, kSize * kSize * sizeof(float));
  EXPECT_EQ(traffic.matrix_loads, 512U);
  EXPECT_EQ(traffic.bank_conflicts, 512U * 6);
  EXPECT_EQ(emulator::take_traffic("matmul_simdgroup_f32").matrix_loads, 0U) << "it was taken";
}

TEST(ShaderRun, SimdgroupMatrixFloat) {
  const std::uint32_t n = 128;
  std::vector<float> a = random_values(n * n, 1), b = random_values(n * n, 2), c(n * n, NAN);
  Dispatch run("matmul_simdgroup_f32");
  run.bind(0, a).bind(1, b).bind(2, c).value(3, shader_args::Matmul{n, n, n, 0.5f});
  run.groups({n / 32, n / 32}, {128});
  std::vector<double> expected = product(a, b, n, n, n);
  for (double& v : expected) v *= 0.5;
  expect_close(c, expected, 1e-6);
  RecordProperty("milliseconds", std::to_string(best_milliseconds([&] {
                   run.groups({n / 32, n / 32}, {128});
                 })));
}

TEST(ShaderRun, SimdgroupMatrixHalf) {
  const std::uint32_t n = 64;
  const std::vector<float> values_a = random_values(n * n, 1), values_b = random_values(n * n, 2);
  std::vector<half> a(values_a.begin(), values_a.end()), b(values_b.begin(), values_b.end()),
      c(n * n, half(NAN));
  Dispatch("matmul_simdgroup_f16")
      .bind(0, a)
      .bind(1, b)
      .bind(2, c)
      .value(3, shader_args::Matmul{n, n, n, 1.0f})
      .groups({n / 32, n / 32}, {128});
  expect_close(c, product(a, b, n, n, n), 1e-3);
}

TEST(ShaderRun, Histogram) {
  const std::uint32_t n = 10000;
  std::vector<std::uint32_t> values(n), bins(16), expected(16);
  std::mt19937 random(3);
  for (std::uint32_t& v : values) ++expected[(v = static_cast<std::uint32_t>(random())) % 16];
  Dispatch("histogram").bind(0, values).bind(1, bins).value(2, n).groups({(n + 255) / 256}, {256});
  EXPECT_EQ(bins, expected);
}

}  // namespace
}  // namespace shader_test
