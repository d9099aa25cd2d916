#include <functional>
#include <limits>

#include <candela/autograd/backward.h>
#include <candela/core/parallel.h>
#include <candela/core/random.h>
#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/random.h>

#include "cases/check.h"
#include "ops/composed.h"
#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(attention, Forward, testing::ValuesIn(tested("attention")), test_name);
INSTANTIATE_TEST_SUITE_P(attention, Backward, testing::ValuesIn(tested("attention")), test_name);
INSTANTIATE_TEST_SUITE_P(attention, ReferenceGradient,
                         testing::ValuesIn(with_reference_gradient("attention")), test_name);

}  // namespace candela::cases

namespace candela {
namespace {

using Attention = std::function<Tensor(const Tensor& q, const Tensor& k, const Tensor& v)>;

Tensor i32(const std::vector<std::int32_t>& values) {
  return Tensor::from_values(values, {static_cast<std::int64_t>(values.size())});
}

/// q, k, v, the gradient of the result, and what comes of them.
struct Problem {
  Tensor q, k, v, dout;
  Tensor out, dq, dk, dv;

  Problem(const Shape& queries, const Shape& keys, DType dtype) {
    Generator generator(7);
    q = normal(queries, generator, 0, 1, dtype);
    k = normal(keys, generator, 0, 1, dtype);
    v = normal(keys, generator, 0, 1, dtype);
    dout = normal(queries, generator, 0, 1, dtype);
  }
  void run(const Attention& attend) {
    for (Tensor* x : {&q, &k, &v}) *x = x->detach().set_requires_grad(true);
    const Tensor result = attend(q, k, v);
    backward(result, dout);
    out = result.detach();
    dq = q.grad();
    dk = k.grad();
    dv = v.grad();
  }
  Problem in(DType dtype) const {
    Problem copy = *this;
    for (Tensor* x : {&copy.q, &copy.k, &copy.v, &copy.dout}) *x = cast(x->detach(), dtype);
    return copy;
  }
};

std::vector<double> values_of(const Tensor& x) {
  return cast(x, DType::F64).to_vector<double>();
}

void put(const Tensor& x, std::int64_t token, std::int64_t head, std::int64_t d, double value) {
  fill_(slice(slice(slice(x, 1, token, token + 1), 2, head, head + 1), 3, d, d + 1), value);
}

/// Whether any element of tokens [begin, end) is NaN or infinite.
bool any_special(const Tensor& x, std::int64_t begin, std::int64_t end) {
  for (const double value : values_of(slice(x, 1, begin, end))) {
    if (!std::isfinite(value)) return true;
  }
  return false;
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct NamedMask {
  const char* name;
  AttentionOptions options;
};

std::vector<NamedMask> masks_of(std::int64_t tokens) {
  const auto third = static_cast<std::int32_t>(tokens / 3);
  const auto end = static_cast<std::int32_t>(tokens);
  return {{"causal", {}},
          {"full", {.causal = false}},
          {"window", {.window = 5}},
          {"full_window", {.causal = false, .window = 5}},
          {"packed", {.cu_seqlens = i32({0, third, third, third + 3, end})}},
          {"packed_full", {.causal = false, .cu_seqlens = i32({0, third, third + 3, end})}},
          {"cache", {.q_start = i32({-3})}}};
}

/// NaN and infinities, planted into each operand in turn, come out where they do in the reference: in the
/// result and in all three gradients.
class AttentionSpecials : public testing::TestWithParam<DType> {
 protected:
  static void expect_as_reference(Problem problem, const AttentionOptions& options) {
    Problem reference = problem.in(DType::F64);
    problem.run(
        [&](const Tensor& q, const Tensor& k, const Tensor& v) { return attention(q, k, v, options); });
    reference.run([&](const Tensor& q, const Tensor& k, const Tensor& v) {
      return composed::attention(q, k, v, options);
    });
    EXPECT_EQ(cases::compare(problem.out, reference.out), "") << "out";
    const NoGrad guard;  // one query alone takes another way when there is no gradient to come
    EXPECT_EQ(cases::compare(attention(problem.q, problem.k, problem.v, options), reference.out), "");
    EXPECT_EQ(cases::compare(problem.dq, reference.dq), "") << "dq";
    EXPECT_EQ(cases::compare(problem.dk, reference.dk), "") << "dk";
    EXPECT_EQ(cases::compare(problem.dv, reference.dv), "") << "dv";
  }

  static void plant_everywhere(std::int64_t tokens, std::int64_t heads, std::int64_t size) {
    const Problem clean({1, tokens, heads, size}, {1, tokens, heads / 2, size}, GetParam());
    for (const NamedMask& mask : masks_of(tokens)) {
      for (const double value : {kNan, kInfinity, -kInfinity}) {
        for (const char* where : {"q", "k", "v", "dout"}) {
          const testing::Message trace = testing::Message() << value << " in " << where << ", " << mask.name;
          SCOPED_TRACE(trace);
          Problem problem = clean;
          Tensor& target = *where == 'q'   ? problem.q
                           : *where == 'k' ? problem.k
                           : *where == 'v' ? problem.v
                                           : problem.dout;
          target = clone(target);
          put(target, tokens / 2, 0, size - 1, value);
          expect_as_reference(problem, mask.options);
        }
      }
    }
  }
};

TEST_P(AttentionSpecials, OneBlock) {
  plant_everywhere(17, 4, 3);
}

TEST_P(AttentionSpecials, ManyBlocks) {
  plant_everywhere(150, 2, 5);
}

TEST_P(AttentionSpecials, OneQuery) {
  for (const double value : {kNan, kInfinity, -kInfinity}) {
    Problem problem({1, 1, 4, 6}, {1, 90, 2, 6}, GetParam());
    put(problem.v, 20, 0, 2, value);
    put(problem.k, 21, 1, 2, value);
    expect_as_reference(problem, {.window = 60});
    expect_as_reference(problem, {.q_start = i32({19})});
    expect_as_reference(problem, {});
  }
}

/// Enough keys for them to be met in parts that are joined.
TEST_P(AttentionSpecials, ManyKeys) {
  for (const std::int64_t queries : {1, 3}) {
    for (const double value : {kNan, kInfinity, -kInfinity}) {
      for (const bool in_keys : {false, true}) {
        const testing::Message trace = testing::Message() << value << (in_keys ? " in k" : " in v");
        SCOPED_TRACE(trace);
        Problem problem({1, queries, 2, 4}, {1, 1300, 1, 4}, GetParam());
        put(in_keys ? problem.k : problem.v, 700, 0, 2, value);
        expect_as_reference(problem, {.causal = false});
        expect_as_reference(problem, {.q_start = i32({698})});
        expect_as_reference(problem, {.window = 600});
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(attention, AttentionSpecials, testing::Values(DType::F32, DType::BF16, DType::F16),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

TEST(AttentionMask, KeepsWhatIsNotSeenOut) {
  const NoGrad guard;
  Problem late({1, 300, 2, 8}, {1, 300, 1, 8}, DType::F32);
  put(late.v, 100, 0, 3, kNan);
  const Tensor causal = attention(late.q, late.k, late.v);
  EXPECT_FALSE(any_special(causal, 0, 100));
  EXPECT_TRUE(any_special(causal, 100, 101));
  const Tensor window = attention(late.q, late.k, late.v, {.window = 20});
  EXPECT_TRUE(any_special(window, 119, 120));
  EXPECT_FALSE(any_special(window, 120, 300));
  const Tensor packed =
      attention(late.q, late.k, late.v, {.causal = false, .cu_seqlens = i32({0, 90, 101, 300})});
  EXPECT_FALSE(any_special(packed, 0, 90));
  EXPECT_TRUE(any_special(packed, 90, 91));
  EXPECT_FALSE(any_special(packed, 101, 300));
}

/// All scores of a query -inf: softmax of that row is NaN. No key at all: the sum over none, zero.
TEST(AttentionMask, TellsNothingSeenFromMinusInfinity) {
  const NoGrad guard;
  const Tensor v = ones({1, 3, 1, 2});
  const Tensor k = full({1, 3, 1, 2}, 1);
  for (const std::int64_t queries : {1, 2}) {
    const Tensor q = full({1, queries, 1, 2}, -kInfinity);
    EXPECT_TRUE(std::isnan(attention(q, k, v).to_vector<float>()[0]));
    EXPECT_TRUE(std::isnan(composed::attention(q, k, v, {}).to_vector<float>()[0]));
    const AttentionOptions before{.q_start = i32({-5})};
    EXPECT_EQ(attention(q, k, v, before).to_vector<float>()[0], 0);
    EXPECT_EQ(composed::attention(q, k, v, before).to_vector<float>()[0], 0);
  }
}

/// The same bits, whatever the number of threads: with one key head too, where all of them share its keys.
class AttentionThreads : public testing::TestWithParam<DType> {
 protected:
  void TearDown() override { set_thread_count(0); }

  static void expect_same_bits(const Shape& queries, const Shape& keys, const AttentionOptions& options) {
    Problem problem(queries, keys, GetParam());
    const auto run = [&](int threads) {
      set_thread_count(threads);
      problem.run(
          [&](const Tensor& q, const Tensor& k, const Tensor& v) { return attention(q, k, v, options); });
      const NoGrad guard;
      return std::vector{values_of(problem.out), values_of(problem.dq), values_of(problem.dk),
                         values_of(problem.dv),
                         values_of(attention(problem.q, problem.k, problem.v, options))};
    };
    const auto alone = run(1);
    for (const int threads : {2, 3, 7}) EXPECT_EQ(run(threads), alone) << threads << " threads";
  }
};

TEST_P(AttentionThreads, GiveTheSameBits) {
  expect_same_bits({1, 700, 2, 16}, {1, 700, 1, 16}, {});
  expect_same_bits({2, 70, 4, 24}, {2, 1500, 2, 24}, {.causal = false});
  expect_same_bits({1, 700, 2, 16}, {1, 700, 1, 16}, {.window = 33, .cu_seqlens = i32({0, 3, 400, 700})});
  expect_same_bits({1, 1, 5, 64}, {1, 3000, 1, 64}, {});
  expect_same_bits({1, 1, 20, 40}, {1, 3000, 2, 40}, {});
}

INSTANTIATE_TEST_SUITE_P(attention, AttentionThreads, testing::Values(DType::F32, DType::BF16),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

/// Runs the call, which must throw, and returns what it says.
std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(AttentionArguments, RefusesBoundsThatDoNotCoverTheTokens) {
  const Tensor x = zeros({1, 200, 2, 4});
  const auto refused = [&](const Tensor& bounds) {
    return refusal([&] { attention(x, x, x, {.cu_seqlens = bounds}); });
  };
  EXPECT_EQ(refused(i32({0, 150, 100, 900})),
            "attention: cu_seqlens must not decrease; got 100 after 150 at index 2");
  EXPECT_EQ(refused(i32({0, 100})), "attention: cu_seqlens must end at T = 200; got 100");
  EXPECT_EQ(refused(i32({0, 100, 900})), "attention: cu_seqlens must end at T = 200; got 900");
  EXPECT_EQ(refused(i32({-4, 200})), "attention: cu_seqlens must start at 0; got -4");
  EXPECT_EQ(refused(i32({0})), "attention: cu_seqlens must be i32 [N + 1], N at least 1; got i32 [1] on cpu");
  EXPECT_EQ(refused(cast(i32({0, 200}), DType::I64)),
            "attention: cu_seqlens must be i32 [N + 1], N at least 1; got i64 [2] on cpu");
  EXPECT_EQ(refused(reshape(i32({0, 200}), {1, 2})),
            "attention: cu_seqlens must be i32 [N + 1], N at least 1; got i32 [1, 2] on cpu");
  EXPECT_EQ(refused(to_device(i32({0, 200}), Device::plan())),
            "attention: all tensors must be on one device; got cpu and plan");
  const Tensor two = zeros({2, 200, 2, 4});
  EXPECT_NE(refusal([&] {
              attention(two, two, two, {.cu_seqlens = i32({0, 200})});
            }).find("need B = 1"),
            std::string::npos);
}

TEST(AttentionArguments, RefusesWhatDoesNotFitTogether) {
  const Tensor x = zeros({2, 5, 4, 8});
  const auto refused = [&](const Tensor& k, const Tensor& v, const AttentionOptions& options = {}) {
    return refusal([&] { attention(x, k, v, options); });
  };
  EXPECT_EQ(refused(zeros({2, 5, 3, 8}), zeros({2, 5, 3, 8})),
            "attention: 4 query heads must be a multiple of 3 key heads");
  EXPECT_EQ(refused(zeros({2, 5, 0, 8}), zeros({2, 5, 0, 8})),
            "attention: 4 query heads must be a multiple of 0 key heads");
  EXPECT_EQ(refused(zeros({2, 5, 4, 16}), zeros({2, 5, 4, 16})),
            "attention: q [2, 5, 4, 8] and k [2, 5, 4, 16] must agree in batch and head size");
  EXPECT_EQ(refused(x, zeros({2, 6, 4, 8})),
            "attention: k and v must have one shape; got [2, 5, 4, 8] and [2, 6, 4, 8]");
  EXPECT_EQ(refused(x, cast(x, DType::BF16)),
            "attention: dtypes must match; got f32 and bf16; cast() one of them");
  EXPECT_EQ(refused(x, x, {.window = -1}), "attention: window must be at least 1, or 0 for no limit; got -1");
  EXPECT_EQ(refused(x, x, {.scale = kNan}),
            "attention: scale must be a finite f32 number, or 0 for 1 / sqrt(D); got nan");
  EXPECT_EQ(refused(x, x, {.scale = 1e-60}),
            "attention: scale must be a finite f32 number, or 0 for 1 / sqrt(D); got 1e-60");
  EXPECT_EQ(refused(x, x, {.q_start = i32({0})}), "attention: q_start must be i32 [2]; got i32 [1] on cpu");
  EXPECT_EQ(refused(x, x, {.q_start = cast(i32({0, 0}), DType::I64)}),
            "attention: q_start must be i32 [2]; got i64 [2] on cpu");
}

}  // namespace
}  // namespace candela
