#include <cstdlib>
#include <gtest/gtest.h>
#include <string>

#include "backend/cpu/simd_targets.h"
#include "backend/kernels.h"

// After simd_targets.h, which tells it what is compiled.
#include <hwy/targets.h>

namespace candela {
namespace {

/// CANDELA_TEST_INSTRUCTION_SET=AVX2, say, runs the tests as a processor would that has nothing better.
class InstructionSet : public testing::Environment {
 public:
  void SetUp() override {
    const char* const wanted = std::getenv("CANDELA_TEST_INSTRUCTION_SET");
    if (wanted == nullptr) return;
    std::int64_t target = 0;
    for (std::int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
      if (std::string(hwy::TargetName(left & -left)) == wanted) target = left & -left;
    }
    if (target == 0) GTEST_SKIP() << wanted << " does not run here: the processor does not have it";
    if (HWY_STATIC_TARGET < target)
      GTEST_SKIP() << wanted << " does not run here: this build needs a better one";
    hwy::DisableTargets(target - 1);  // better ones are lower bits
    const std::string used = backend(Device::cpu()).description();
    ASSERT_TRUE(used.ends_with(wanted)) << used;
  }
};

[[maybe_unused]] testing::Environment* const instruction_set =
    testing::AddGlobalTestEnvironment(std::make_unique<InstructionSet>().release());

}  // namespace
}  // namespace candela
