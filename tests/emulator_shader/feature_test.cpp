// What the language offers, one test per corner.

#include <numeric>

#include "harness.h"

namespace shader_test {
namespace {

using emulator::ScalarType;
using metal::bfloat;
using metal::half;

TEST(ShaderFeature, FunctionConstants) {
  std::vector<float> out(8), bias = {1, 2, 3, 4, 5, 6, 7, 8};
  const float table[] = {1, 10, 100, 1000};
  Dispatch("constants")
      .bind(0, out)
      .constant(0, ScalarType::Bool, false)
      .constant(1, ScalarType::Uint, 3u)
      .threads({8}, {8});
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(out[i], 3 + table[i % 4]);
  Dispatch with("constants");
  with.bind(0, out).bind(1, bias).constant(0, ScalarType::Bool, true).constant(2, ScalarType::Float, 0.5f);
  const std::uint32_t repeat = 4;
  with.constants.set("repeat", ScalarType::Uint, &repeat);
  with.threads({8}, {8});
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(out[i], 2 + bias[i] + table[i % 4]);
}

TEST(ShaderFeature, Reflection) {
  const emulator::Kernel* kernel = emulator::find_kernel("reverse_rows_f16");
  ASSERT_NE(kernel, nullptr);
  EXPECT_EQ(kernel->max_threads, 64u);
  ASSERT_EQ(kernel->arguments.size(), 3u);
  EXPECT_EQ(kernel->arguments[0].name, "in");
  EXPECT_TRUE(kernel->arguments[0].is_const);
  EXPECT_FALSE(kernel->arguments[1].is_const);
  EXPECT_EQ(kernel->arguments[1].element_bytes, 2u);
  EXPECT_EQ(kernel->arguments[2].kind, emulator::ArgumentKind::Threadgroup);
  EXPECT_EQ(emulator::find_kernel("matmul_tiled")->static_threadgroup_bytes(), 2 * 16 * 16 * sizeof(float));
  ASSERT_EQ(emulator::find_kernel("constants")->function_constants.size(), 3u);
  EXPECT_EQ(emulator::find_kernel("no_such_kernel"), nullptr);
}

template <class T>
void check_reverse(const char* name, std::uint32_t n) {
  const std::uint32_t rows = 3;
  std::vector<T> in, out(rows * n, T(0));
  for (std::uint32_t i = 0; i < rows * n; ++i) in.push_back(T(static_cast<int>(i % 100)));
  Dispatch(name).bind(0, in).bind(1, out).threadgroup(0, (n * sizeof(T) + 15) / 16 * 16).groups({rows}, {32});
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint32_t i = 0; i < n; ++i) {
      ASSERT_EQ(static_cast<float>(out[row * n + i]), static_cast<float>(in[row * n + n - 1 - i]))
          << name << " " << i;
    }
  }
}

TEST(ShaderFeature, HostNamesAndThreadgroupArguments) {
  check_reverse<float>("reverse_rows_f32", 40);
  check_reverse<half>("reverse_rows_f16", 64);
  check_reverse<unsigned char>("reverse_rows_u8", 7);
}

TEST(ShaderFeature, SimdOperations) {
  std::vector<int> in(32), out(18 * 32, -1);
  for (int i = 0; i < 32; ++i) in[static_cast<std::size_t>(i)] = (i * 37) % 50 - 20;
  Dispatch("simd_operations").bind(0, in).bind(1, out).groups({1}, {32});
  const int sum = std::accumulate(in.begin(), in.end(), 0);
  int product = 1, all_and = -1, all_or = 0, all_xor = 0, prefix = 0;
  std::uint32_t positive = 0;
  for (int i = 0; i < 32; ++i) {
    const int x = in[static_cast<std::size_t>(i)];
    if (x % 3 == 0) product *= 2;
    all_and &= x, all_or |= x, all_xor ^= x;
    if (x > 0) positive |= 1u << i;
  }
  const auto x = [&in](int i) { return in[static_cast<std::size_t>(i)]; };
  for (int i = 0; i < 32; ++i) {
    const int expected[] = {sum,
                            *std::max_element(in.begin(), in.end()),
                            *std::min_element(in.begin(), in.end()),
                            product,
                            prefix + x(i),
                            prefix,
                            x(31 - i),
                            i + 3 < 32 ? x(i + 3) : x(i),
                            i >= 2 ? x(i - 2) : x(i),
                            x(i ^ 5),
                            x(7),
                            x(0),
                            i + 4 < 32 ? x(i + 4) : 100 + (i + 4) % 32,
                            i >= 4 ? x(i - 4) : 100 + i + 28,
                            static_cast<int>(positive),
                            1,
                            x((i + 1) % 32),
                            all_and + all_or + all_xor};
    for (int row = 0; row < 18; ++row)
      ASSERT_EQ(out[static_cast<std::size_t>(32 * row + i)], expected[row])
          << "operation " << row << " lane " << i;
    prefix += x(i);
  }
}

TEST(ShaderFeature, ReturnedLanesTakeNoPart) {
  for (const std::uint32_t lanes : {1u, 7u, 31u, 32u}) {
    std::vector<float> out(32, 0);
    Dispatch("simd_after_return").bind(0, out).value(1, lanes).groups({1}, {32});
    for (std::uint32_t i = 0; i < 32; ++i)
      ASSERT_EQ(out[i], i < lanes ? static_cast<float>(lanes * (lanes + 1)) / 2 + 0.5f : 0.0f);
  }
}

TEST(ShaderFeature, Vectors) {
  struct Packed {
    float position[3];
    half weight;
    unsigned char flags[2];
  };
  static_assert(sizeof(Packed) == 16);
  std::vector<float> a = random_values(12 + 4, 1), out(24);
  a.resize(12);
  std::vector<half> h;
  for (int i = 0; i < 12; ++i) h.push_back(half(0.25f * static_cast<float>(i) - 1));
  std::vector<Packed> packed(3, Packed{{0, 0, 0}, half(0), {0, 0}});
  alignas(16) float aligned[12];
  std::copy(a.begin(), a.end(), aligned);
  Dispatch("vectors")
      .bind(0, aligned, sizeof(aligned))
      .bind(1, h)
      .bind(2, out)
      .bind(3, packed)
      .threads({3}, {3});
  for (std::size_t i = 0; i < 3; ++i) {
    const float v[4] = {a[4 * i + 1], a[4 * i], a[4 * i + 2] + 1, a[4 * i + 3] + 2};
    const auto w = [&](std::size_t n) { return h[4 * i + n]; };
    const float* o = &out[8 * i];
    EXPECT_EQ(o[0], v[0] * 1 + v[1] * 2 + v[2] * 3);
    EXPECT_EQ(o[1], static_cast<float>(half(half(w(0) * w(1)) + w(2))));
    float clamped = 0, over = 0;
    for (const float e : v) clamped += std::clamp(e, 0.0f, 1.0f), over += e > 0.5f;
    EXPECT_EQ(o[2], clamped);
    EXPECT_EQ(o[3], (over > 0 ? 1.0f : 0.0f) + (over == 4 ? 2.0f : 0.0f));
    EXPECT_EQ(o[4], -v[0]);
    EXPECT_NEAR(o[5], std::exp(v[0]) + std::tanh(v[1]) + 0.5f + std::fma(v[0], v[1], v[2]), 1e-5);
    EXPECT_EQ(o[6], a[4 * i + 2] - a[4 * i + 3]);
    EXPECT_EQ(o[7], a[4 * i + 3] + 3 + 3 + 1 + 1);
    for (std::size_t k = 0; k < 3; ++k) EXPECT_EQ(packed[i].position[k], 2 * v[k]);
    EXPECT_EQ(static_cast<float>(packed[i].weight), static_cast<float>(w(3)));
    EXPECT_EQ(packed[i].flags[1], i);
  }
}

TEST(ShaderFeature, FloatAtomics) {
  const std::uint32_t n = 1000;
  float sum = 0;
  std::int32_t largest = -1;
  std::uint32_t ticket = 0;
  std::vector<float> out(n);
  Dispatch("float_atomics")
      .bind(0, &sum, 4)
      .bind(1, &largest, 4)
      .bind(2, &ticket, 4)
      .bind(3, out)
      .threads({n}, {64});
  EXPECT_EQ(sum, 500.0f);
  EXPECT_EQ(largest, 999);
  EXPECT_EQ(ticket, n);
  EXPECT_EQ(std::count(out.begin(), out.end(), 1.0f), n);
}

TEST(ShaderFeature, ChainedMatrixProducts) {
  std::vector<float> a = random_values(64, 1), b_values = random_values(64, 2), out(128);
  const std::vector<half> b(b_values.begin(), b_values.end());
  std::vector<half> b_copy = b;
  Dispatch("chained_products").bind(0, a).bind(1, b_copy).bind(2, out).groups({1}, {32});
  std::vector<float> b_float(b.begin(), b.end()), b_t(64), middle(64);
  for (std::size_t i = 0; i < 64; ++i) b_t[i % 8 * 8 + i / 8] = b_float[i];
  const std::vector<double> ab = product(a, b_float, 8, 8, 8);
  for (std::size_t i = 0; i < 64; ++i) middle[i] = static_cast<float>(2 * ab[i]);
  std::vector<double> expected = product(middle, b_t, 8, 8, 8);
  for (std::size_t i = 0; i < 64; ++i) expected[i] = 3 * expected[i] + a[i];
  expect_close(std::vector<float>(out.begin(), out.begin() + 64), expected, 1e-6);
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(out[64 + i % 8 * 8 + i / 8], out[i]);
}

TEST(ShaderFeature, MatricesOutliveTheRing) {
  const std::uint32_t count = 1000;
  std::vector<float> a = random_values(256, 1), out(4 * 64);
  for (const auto order : {emulator::Order::Forward, emulator::Order::Reverse, emulator::Order::Shuffled}) {
    emulator::set_options({order, 5, 0});
    Dispatch("many_products").bind(0, a).bind(1, out).value(2, count).groups({1}, {128});
    std::vector<double> expected(64);
    for (std::size_t n = 0; n < 4; ++n) {
      const std::vector<float> other(a.begin() + static_cast<std::ptrdiff_t>(64 * n),
                                     a.begin() + static_cast<std::ptrdiff_t>(64 * n + 64));
      const std::vector<double> one = product(std::vector<float>(a.begin(), a.begin() + 64), other, 8, 8, 8);
      for (std::size_t i = 0; i < 64; ++i) expected[i] += one[i] * count / 4;
    }
    for (std::size_t group = 0; group < 4; ++group) {
      expect_close(std::vector<float>(out.begin() + static_cast<std::ptrdiff_t>(64 * group),
                                      out.begin() + static_cast<std::ptrdiff_t>(64 * group + 64)),
                   expected, 1e-5);
    }
  }
  emulator::set_options({});
}

TEST(ShaderFeature, HalfRoundsAsIeee) {
  EXPECT_EQ(half(1.0f + 0x1p-11f).bits, 0x3c00);  // a tie goes to even
  EXPECT_EQ(half(1.0f + 0x1.8p-10f).bits, 0x3c02);
  EXPECT_EQ(half(65519.0f).bits, 0x7bff);
  EXPECT_EQ(half(65520.0f).bits, 0x7c00);
  EXPECT_EQ(half(0x1p-25f).bits, 0);
  EXPECT_EQ(half(-0x1.8p-25f).bits, 0x8001);
  EXPECT_EQ(bfloat(1.0f + 0x1p-8f).bits, 0x3f80);
  EXPECT_EQ(bfloat(1.0f + 0x1.8p-7f).bits, 0x3f82);
  EXPECT_TRUE(std::isnan(static_cast<float>(half(NAN))) && std::isnan(static_cast<float>(bfloat(NAN))));
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const half h = half::from_bits(static_cast<std::uint16_t>(bits));
    if ((bits & 0x7fff) > 0x7c00) continue;
    ASSERT_EQ(half(static_cast<float>(h)).bits, bits);
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double value = exponent == 31  ? INFINITY
                         : exponent == 0 ? std::ldexp(bits & 0x3ff, -24)
                                         : std::ldexp((bits & 0x3ff) | 0x400, exponent - 25);
    ASSERT_EQ(static_cast<double>(static_cast<float>(h)), (bits & 0x8000) != 0 ? -value : value);
  }
}

}  // namespace
}  // namespace shader_test
