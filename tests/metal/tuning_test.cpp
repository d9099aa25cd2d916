#include "backend/tuning.h"

#include <candela/core/device.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/softmax.h>
#include <candela/ops/topk.h>
#include <candela/ops/tuning.h>

#include "backend/selector.h"
#include "io/files.h"
#include "metal/support.h"

namespace candela::metal_tests {
namespace {

/// Choosing between MPS and own shaders by measurement. Which of them wins on the stand-in says nothing about
/// a GPU: what is tested is that the right ones are measured, and that the choice is kept and followed.
class TuningOnMetal : public MetalTest {
 protected:
  void SetUp() override {
    MetalTest::SetUp();
    if (!IsSkipped()) enable_tuning(folder_ / "tuning.tsv");
  }
  void TearDown() override {
    disable_tuning();
    MetalTest::TearDown();
  }

  /// The choice for the key that starts so, on the Metal device.
  static TunedChoice choice_of(const std::string& start) {
    const TuningTable table = Tuning::instance().table();
    const auto found = table.find(device_interface(metal()).description());
    if (found != table.end()) {
      for (const auto& [key, choice] : found->second) {
        if (key.starts_with(start)) return choice;
      }
    }
    ADD_FAILURE() << "nothing was measured for " << start;
    return {};
  }
  static void expect_measured(const std::string& start, const std::vector<std::string>& names) {
    std::vector<std::string> measured;
    for (const auto& [name, nanoseconds] : choice_of(start).nanoseconds) {
      measured.push_back(name);
      EXPECT_GT(nanoseconds, 0) << name;
    }
    EXPECT_EQ(measured, names) << start;
  }

  test::TemporaryFolder folder_;
};

#if defined(CANDELA_MPS)

TEST_F(TuningOnMetal, ProductsMeasureMpsAndTheOwnShaderButNeverTheHost) {
  const Tensor a = random_tensor({40, 50}, 1);
  const Tensor b = random_tensor({50, 30}, 2);
  const std::vector<double> expected = product(values(a), values(b), 40, 50, 30);
  const Tensor first = matmul(a, b);
  EXPECT_LE(relative_error(values(first), expected), 1e-5);
  expect_measured("matmul f32 to f32", {"mps", "simdgroup"});
  const std::string chosen = choice_of("matmul f32 to f32").implementation;
  const std::uint64_t before = runs_of(&KernelTable::matmul, chosen);
  EXPECT_LE(relative_error(values(matmul(a, b)), expected), 1e-5);
  EXPECT_EQ(runs_of(&KernelTable::matmul, chosen), before + 1) << "the choice is followed";
}

TEST_F(TuningOnMetal, SoftmaxWithItsGradientAndTopk) {
  const Tensor x = random_tensor({20, 30}, 1);
  softmax(x, 1);
  log_softmax(x, 1);
  topk(x, 5);
  const Tensor dx = full({20, 30}, NAN, DType::F32, metal());
  try_run(&KernelTable::softmax_grad, metal(), SoftmaxGradArgs{x, x, dx, 1, false});
  expect_measured("softmax f32 last", {"mps", "native"});
  expect_measured("log_softmax f32 last", {"mps", "native"});
  expect_measured("softmax_grad f32 last", {"mps", "native"});
  expect_measured("topk f32", {"mps", "native"});
}

TEST_F(TuningOnMetal, LoraMeasuresTheChainAndTheFusedShader) {
  const Tensor weight = random_tensor({40, 24}, 1);
  const LowRank adapter{random_tensor({4, 24}, 2), random_tensor({40, 4}, 3), 2.0};
  const Tensor x = random_tensor({32, 24}, 4);
  const Tensor tuned = lora_linear(x, weight, {}, std::span(&adapter, 1));
  expect_measured("lora_linear f32", {"fused", "mps"});
  disable_tuning();
  EXPECT_LE(relative_error(tuned, lora_linear(x, weight, {}, std::span(&adapter, 1))), 1e-5);
}

TEST_F(TuningOnMetal, AChoiceOnFileIsFollowedWithoutMeasuring) {
  const std::string device = device_interface(metal()).description();
  const Tensor x = random_tensor({16, 64}, 1);
  for (const std::string name : {"native", "mps"}) {
    TuningTable table;
    table[device]["softmax f32 last rows16 d64"] = {name, {{name, 1.0}}};
    Tuning::instance().enable(table, nullptr);
    const std::uint64_t before = runs_of(&KernelTable::softmax, name);
    softmax(x, 1);
    EXPECT_EQ(runs_of(&KernelTable::softmax, name), before + 1) << name;
    EXPECT_EQ(Tuning::instance().table(), table) << "nothing was measured";
  }
}

#endif

TEST_F(TuningOnMetal, WhereOneGpuImplementationIsLeftNothingIsMeasured) {
  const std::uint64_t host = runs_of(&KernelTable::matmul, "host");
  matmul(random_tensor({20, 4}, 1, DType::BF16), random_tensor({4, 20}, 2, DType::BF16));
  EXPECT_TRUE(Tuning::instance().table().empty());
  EXPECT_EQ(runs_of(&KernelTable::matmul, "host"), host) << "the host is a last resort, not a rival";
}

TEST_F(TuningOnMetal, TheDeviceSaysIfItIsEmulated) {
  const bool says = device_interface(metal()).description().find("emulated") != std::string::npos;
#if defined(CANDELA_EMULATED_METAL)
  EXPECT_TRUE(says) << "every bench and tuning file must tell";
#else
  EXPECT_FALSE(says);
#endif
}

}  // namespace
}  // namespace candela::metal_tests
