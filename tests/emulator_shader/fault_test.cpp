// Each refusal, and what it says.

#include <fstream>
#include <sstream>
#include <thread>

#include "harness.h"

namespace shader_test {
namespace {

class ShaderFaultTest : public testing::Test {
 protected:
  // The texts name the first thread that breaks a rule, which depends on the order.
  void SetUp() override { emulator::set_options({}); }

  std::vector<float> in_ = std::vector<float>(64, 1.0f), out_ = std::vector<float>(64, 0.0f);
};

TEST_F(ShaderFaultTest, UnboundBuffer) {
  expect_fault([&] { Dispatch("saxpy").bind(0, in_).value(2, 1.0f).groups({1}, {32}); },
               {"saxpy", "buffer 1 (y) was never bound"});
}

TEST_F(ShaderFaultTest, ReferenceToTooFewBytes) {
  expect_fault(
      [&] { Dispatch("reference_too_large").bind(0, in_.data(), 60).bind(1, out_).groups({1}, {1}); },
      {"buffer 0 (matrix)", "64 bytes", "60 are bound"});
}

TEST_F(ShaderFaultTest, MisalignedBinding) {
  expect_fault(
      [&] {
        Dispatch("saxpy")
            .bind(0, reinterpret_cast<char*>(in_.data()) + 2, 64)
            .bind(1, out_)
            .value(2, 1.0f)
            .groups({1}, {8});
      },
      {"buffer 0 (x)", "aligned to 4 bytes"});
}

TEST_F(ShaderFaultTest, EmptyAndLargeGroups) {
  expect_fault([&] { Dispatch("write_past_end").bind(0, out_).groups({1}, {0}); }, {"must not be empty"});
  expect_fault([&] { Dispatch("write_past_end").bind(0, out_).groups({0}, {1}); }, {"must not be empty"});
  expect_fault([&] { Dispatch("write_past_end").bind(0, out_).groups({1}, {1025}); },
               {"at most 1024 threads", "1025"});
  expect_fault(
      [&] { Dispatch("reverse_rows_f32").bind(0, in_).bind(1, out_).threadgroup(0, 160).groups({1}, {96}); },
      {"at most 64 threads", "96"});
}

TEST_F(ShaderFaultTest, ThreadgroupMemory) {
  Dispatch("large_static").bind(0, out_).threadgroup(0, 2048).groups({1}, {32});
  expect_fault([&] { Dispatch("large_static").bind(0, out_).threadgroup(0, 2064).groups({1}, {32}); },
               {"at most 32768 bytes", "32784", "30720 are declared"});
  expect_fault([&] { Dispatch("large_static").bind(0, out_).threadgroup(0, 24).groups({1}, {1}); },
               {"multiple of 16", "24"});
  expect_fault([&] { Dispatch("large_static").bind(0, out_).groups({1}, {1}); },
               {"threadgroup argument 0 (more) has no length"});
}

TEST_F(ShaderFaultTest, OutOfBounds) {
  expect_fault([&] { Dispatch("write_past_end").bind(0, out_).groups({3}, {32}); },
               {"write_past_end", "device buffer 0 (out)", "4 bytes at byte offset 256", "256 bytes",
                "thread (0, 0, 0) of threadgroup (2, 0, 0)", "faults.metal"});
  expect_fault([&] { Dispatch("read_before_start").bind(0, in_).bind(1, out_).groups({1}, {1}); },
               {"buffer 0 (in)", "byte offset -4"});
  expect_fault([&] { Dispatch("null_pointer").bind(0, out_).groups({1}, {1}); }, {"null pointer"});
  alignas(16) float in[8] = {}, out[4] = {};
  Dispatch("vector_past_end").bind(0, in, 32).bind(1, out, 16).groups({1}, {2});
  expect_fault([&] { Dispatch("vector_past_end").bind(0, in, 28).bind(1, out, 16).groups({1}, {2}); },
               {"16 bytes at byte offset 16", "28 bytes"});
}

TEST_F(ShaderFaultTest, MisalignedCast) {
  alignas(16) float in[8] = {}, out[4] = {};
  expect_fault([&] { Dispatch("misaligned_cast").bind(0, in, 32).bind(1, out, 16).groups({1}, {1}); },
               {"buffer 0 (in)", "byte offset 4", "aligned to 16 bytes"});
}

TEST_F(ShaderFaultTest, ThreadgroupBounds) {
  Dispatch("shared_index").bind(0, out_).value(1, 7u).groups({1}, {32});
  expect_fault([&] { Dispatch("shared_index").bind(0, out_).value(1, 8u).groups({1}, {32}); },
               {"threadgroup variable tile", "index 8 of a dimension of 8"});
  expect_fault(
      [&] { Dispatch("shared_pointer").bind(0, out_).value(1, 4u).threadgroup(0, 16).groups({1}, {1}); },
      {"threadgroup argument 0 (scratch)", "byte offset 16", "holds 16 bytes"});
}

TEST_F(ShaderFaultTest, ThreadArrays) {
  expect_fault([&] { Dispatch("vector_index").bind(0, out_).value(1, 4u).groups({1}, {1}); },
               {"element 4 of a vector of 4"});
#if !defined(__clang__) || __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "arrays of a thread are checked in builds by clang without sanitizers; with them the "
                  "sanitizer ends the program";
#else
  Dispatch("local_array_index").bind(0, out_).value(1, 3u).groups({1}, {1});
  EXPECT_EQ(out_[0], 6.0f);
  expect_fault([&] { Dispatch("local_array_index").bind(0, out_).value(1, 4u).groups({1}, {1}); },
               {"out of the bounds of an array"});
#endif
}

TEST_F(ShaderFaultTest, Barriers) {
  expect_fault([&] { Dispatch("barrier_in_branch").bind(0, out_).groups({1}, {64}); },
               {"threadgroup_barrier at faults.metal", "every thread of the group"});
  Dispatch("barrier_after_return").bind(0, out_).value(1, 64u).groups({1}, {64});
  expect_fault([&] { Dispatch("barrier_after_return").bind(0, out_).value(1, 63u).groups({1}, {64}); },
               {"thread (63, 0, 0) returned"});
  expect_fault([&] { Dispatch("two_barriers").bind(0, out_).groups({1}, {64}); },
               {"waits at another", "same barrier"});
}

TEST_F(ShaderFaultTest, SimdDivergence) {
  expect_fault([&] { Dispatch("simd_in_branch").bind(0, out_).groups({1}, {32}); },
               {"simd_sum", "lanes 0-15", "not by lanes 16-31", "threadgroup_barrier"});
  expect_fault([&] { Dispatch("simd_two_kinds").bind(0, out_).groups({1}, {32}); },
               {"simd_max", "lanes 0-15 of the same simdgroup wait at simd_sum"});
  expect_fault([&] { Dispatch("simd_shuffle_inactive").bind(0, out_).groups({1}, {32}); },
               {"simd_shuffle_xor", "lane 16, which is not active"});
  expect_fault([&] { Dispatch("simd_delta_differs").bind(0, out_).groups({1}, {32}); },
               {"simd_shuffle_down", "must be the same in all lanes"});
}

TEST_F(ShaderFaultTest, MatrixDivergence) {
  std::vector<float> in(256), out(64);
  expect_fault([&] { Dispatch("matrix_address_differs").bind(0, in).bind(1, out).groups({1}, {32}); },
               {"simdgroup matrices", "another address"});
  expect_fault([&] { Dispatch("matrix_store_in_branch").bind(0, in).bind(1, out).groups({1}, {32}); },
               {"not called by all lanes of simdgroup 0"});
  expect_fault(
      [&] { Dispatch("matrix_load_past_end").bind(0, in.data(), 100 * 4).bind(1, out).groups({1}, {32}); },
      {"buffer 0 (in)", "out of bounds"});
  expect_fault([&] { Dispatch("matrix_load_past_end").bind(0, in).bind(1, out).groups({1}, {16}); },
               {"a simdgroup of 32 lanes"});
}

TEST_F(ShaderFaultTest, ThreadgroupMemoryIsPoisoned) {
  std::vector<std::uint32_t> words(32);
  for (int i = 0; i < 2; ++i) {
    Dispatch("uninitialised_shared").bind(0, out_).bind(1, words).groups({1}, {32});
    for (std::size_t n = 0; n < 32; ++n) ASSERT_TRUE(std::isnan(out_[n]) && words[n] == 0xffffffffu);
    Dispatch("shared_index").bind(0, out_).value(1, 7u).groups({1}, {32});
  }
}

TEST_F(ShaderFaultTest, OrderShowsAMissingBarrier) {
  emulator::set_options({emulator::Order::Reverse, 0, 0});
  Dispatch("missing_barrier").bind(0, out_).groups({1}, {64});
  emulator::set_options({});
  EXPECT_TRUE(std::isnan(out_[5]));
}

TEST_F(ShaderFaultTest, FunctionConstants) {
  Dispatch missing("needs_constant");
  expect_fault([&] { missing.bind(0, out_).groups({1}, {1}); },
               {"function constant 3 (uint needed) has no value"});
  Dispatch wrong("needs_constant");
  expect_fault([&] { wrong.bind(0, out_).constant(3, emulator::ScalarType::Int, 1).groups({1}, {1}); },
               {"was given a value of type int"});
  Dispatch right("needs_constant");
  right.bind(0, out_).constant(3, emulator::ScalarType::Uint, 7u).groups({1}, {1});
  EXPECT_EQ(out_[0], 7.0f);
}

TEST_F(ShaderFaultTest, WorksAfterAFault) {
  for (int i = 0; i < 20; ++i) {
    expect_fault([&] { Dispatch("two_barriers").bind(0, out_).groups({8}, {64}); }, {"same barrier"});
    std::vector<float> x(256, 1.0f), y(256, 1.0f);
    Dispatch("saxpy").bind(0, x).bind(1, y).value(2, 2.0f).groups({4}, {64});
    ASSERT_TRUE(std::all_of(y.begin(), y.end(), [](float v) { return v == 3.0f; }));
  }
}

TEST_F(ShaderFaultTest, SeveralHostThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&right, t] {
      for (int i = 0; i < 10; ++i) {
        std::vector<float> x(512, static_cast<float>(t)), y(512, 1.0f);
        Dispatch("saxpy").bind(0, x).bind(1, y).value(2, 2.0f).groups({8}, {64});
        right +=
            std::all_of(y.begin(), y.end(), [t](float v) { return v == 2.0f * static_cast<float>(t) + 1; });
        expect_fault([&] { Dispatch("barrier_in_branch").bind(0, x).groups({2}, {64}); }, {"every thread"});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 40);
}

TEST_F(ShaderFaultTest, OnlyTranslatedSourceIsFound) {
  std::ostringstream text;
  text << std::ifstream(std::string(SHADER_DIR) + "/basic.metal").rdbuf();
  const emulator::ShaderSource* source = emulator::find_source(text.str());
  ASSERT_NE(source, nullptr);
  EXPECT_EQ(source->file, "shaders/basic.metal");
  const auto kernels = emulator::kernels(*source);
  EXPECT_TRUE(std::any_of(kernels.begin(), kernels.end(),
                          [](const emulator::Kernel* k) { return k->name == "saxpy"; }));
  EXPECT_EQ(emulator::find_source(text.str() + " "), nullptr);
  std::ostringstream flat;
  flat << std::ifstream(FLAT_SHADER).rdbuf();
  EXPECT_NE(flat.str().find("struct Matmul"), std::string::npos);
  EXPECT_EQ(emulator::find_source(flat.str()), source);
}

}  // namespace
}  // namespace shader_test
